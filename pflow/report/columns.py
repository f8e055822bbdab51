"""The columns of the tables of the page: metric, heading, unit, digits."""

from __future__ import annotations

__all__ = ["ACCURACY", "CHECKS", "COST", "OVERVIEW", "REACHED", "SUMMARY"]

# name in metrics.json: heading, unit, significant digits
SUMMARY = {
    "kl_reverse_nats": ("KL(q‖posterior)", "nats", 2),
    "ess_fraction": ("ESS fraction", "", 2),
    "elbo_nats": ("ELBO", "nats", 4),
    "evaluations": ("Evaluations", "", 3),
    "wall_seconds": ("Wall time", "s", 3),
}
OVERVIEW = {
    "pareto_k": ("k\N{NON-BREAKING HYPHEN}hat", "", 2),
    "ess_fraction": ("ESS fraction", "", 2),
    "score_error": ("Score error", "per parameter", 2),
    "predictive_chi_square": ("Predictive χ²", "1 expected", 3),
    "evaluations": ("Evaluations", "", 3),
}
ACCURACY = {
    "kl_reverse_nats": ("KL(q‖posterior)", "nats", 2),
    "kl_reverse_nats_se": ("± error", "nats", 2),
    "kl_forward_nats": ("KL(posterior‖q)", "nats", 2),
    "ess_fraction": ("ESS fraction", "", 2),
    "log_evidence_error_nats": ("Evidence error", "nats", 2),
    "mean_error_posterior_std": ("Mean error", "posterior std", 2),
    "std_error_posterior_std": ("Std error", "relative", 2),
    "c2st": ("Classifier test", "0.5 is best", 3),
}
COST = {
    "sampling_forwards": ("Sampling forwards", "", 3),
    "sampling_evaluations": ("Sampling evaluations", "", 3),
    "checked_evaluations": ("Recalled ones asked again", "", 3),
    "invalid_evaluations": ("NaN or infinite", "", 3),
}
REACHED = (
    1.0,
    0.1,
    0.01,
)  # KL(q || posterior) in nats; the evaluations until the first crossing are listed
CHECKS = {
    "repetition_error": "same result when repeated (relative error)",
    "batch_error": "a batch gives what its members give one by one (relative error)",
    "linearity_error": "linear, as declared (relative error)",
    "dot_test_error": "adjoint is the transpose: dot test (relative error)",
    "gradient_error": "gradient against finite differences (relative error)",
    "jvp_error": "largest relative error of directional derivatives",
    "taylor_slope": "order of the Taylor remainder (2 expected)",
    "seconds_per_forward": "seconds per forward",
    "seconds_per_gradient": "seconds per evaluation (forward with gradient)",
    "low_fidelity_seconds_per_gradient": "seconds per low-fidelity forward with gradient",
    "bytes_saved_for_gradient": "bytes kept for the gradient of a batch",
}
