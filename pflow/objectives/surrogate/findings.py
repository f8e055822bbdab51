"""What a run has found of the model of F, for log, flow.json and report."""

from __future__ import annotations

from pflow.objectives.surrogate.competition import FAR_OFF
from pflow.objectives.surrogate.exploration import Exploration
from pflow.objectives.surrogate.forecast import expected_shift

__all__ = ["findings_of", "shift_of", "warning_of"]

MISPREDICTED = 1.0  # nats of error of the model's log-likelihood beyond which there is a warning
WAY_OUT = "more evaluations, or a better low fidelity, would change the posterior"


def shift_of(exploration: Exploration) -> float | None:
    """See `forecast`; None before a model has been tested at new points."""
    error = exploration.competition.error
    return None if error is None else expected_shift(exploration.frame, error)


def findings_of(exploration: Exploration, next_shift: float | None) -> dict[str, float | str]:
    """Which model won, its error at new points, and what more evaluations would change: all of
    them, and the next hundred.
    """
    errors = {
        f"prediction_error_{name.replace(',', '').replace(' ', '_')}": error**0.5
        for name, error in exploration.competition.errors.items()
    }
    shifts = {
        "expected_shift_posterior_std": shift_of(exploration),
        "next_100_evaluations_shift_posterior_std": next_shift,
    }
    found = errors | {name: shift for name, shift in shifts.items() if shift is not None}
    return {
        "operator_model": exploration.kind,
        **{name: round(value, 6) for name, value in found.items()},
        "low_fidelity_evaluations": exploration.low.calls,
    }


def warning_of(exploration: Exploration, model_error: float, low_unusable: str) -> str:
    """Evidence against the posterior; empty if there is none.

    Arguments:
        exploration: where the evaluations ended.
        model_error: of the log-likelihood at fresh draws of the flow, in nats.
        low_unusable: why F_low takes no part; empty where it does.
    """
    at_new_points, warnings = exploration.error_at_new_points, []
    if at_new_points > FAR_OFF:
        warnings.append(
            f"the model of F mispredicts new data by {at_new_points:.2g} noise standard"
            f" deviations: {WAY_OUT}"
        )
    elif model_error > MISPREDICTED:
        warnings.append(
            "the model of F mispredicts the log-likelihood of fresh draws by"
            f" {model_error:.2g} nats: {WAY_OUT}"
        )
    if low_unusable:
        warnings.append(
            f"the low-fidelity operator takes no part in the model of F, because it {low_unusable},"
            " and fewer evaluations will do"
        )
    return "; ".join(warnings)
