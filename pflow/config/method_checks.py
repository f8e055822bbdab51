"""What contradicts itself in the entries of `finetune:`."""

from __future__ import annotations

from collections.abc import Mapping

from pflow.config.methods import (
    ImportanceSettings,
    MethodSettings,
    NoFinetuningSettings,
    SurrogateSettings,
)

__all__ = ["mistakes_of_methods"]


def mistakes_of_methods(where: str, methods: Mapping[str, MethodSettings]) -> list[str]:
    """Settings that contradict each other or another method, in words."""
    mistakes = []
    for name, method in methods.items():
        place = f"{where}.{name}"
        if getattr(method, "fit", "") == "match_scores" and method.covariance != "dense":
            mistakes.append(
                f"`{place}.covariance` (='{method.covariance}') must be dense for `fit:"
                " match_scores`: its closed form has no other; or set fit: reverse_kl"
            )
        key = "draw" if hasattr(method, "draw") else "batch"
        points = getattr(method, key, None) or 0
        if points > getattr(method, "evaluations", points):
            mistakes.append(
                f"`{place}.evaluations` (={method.evaluations}) must be at least its `{key}`"
                f" (={points}): a smaller budget has no step"
            )
        if isinstance(method, SurrogateSettings) and method.target_elbo_change:
            mistakes.append(
                f"`{place}.target_elbo_change` (={method.target_elbo_change}) cannot be measured by"
                " `surrogate`: use target_shift, target_ess_fraction or a budget alone"
            )
        for target in ("target_ess_fraction", "target_score_error"):
            if getattr(method, "sources", 0) and getattr(method, target):
                mistakes.append(
                    f"`{place}.{target}` (={getattr(method, target)}) cannot be measured with"
                    " random `sources`: use target_elbo_change or a budget alone"
                )
        if getattr(method, "reuse", ""):
            mistakes += _mistakes_of_reuse(place, name, methods)
    return mistakes


def _mistakes_of_reuse(place: str, name: str, methods: Mapping[str, MethodSettings]) -> list[str]:
    reused = methods[name].reuse
    scored = [
        other
        for other, method in methods.items()
        if other != name and not isinstance(method, (NoFinetuningSettings, ImportanceSettings))
    ]
    if reused not in scored:
        return [
            f"`{place}.reuse` (='{reused}') must name another method that evaluates scores:"
            f" {', '.join(scored) or 'there is none'}"
        ]
    if getattr(methods[reused], "sources", 0) != methods[name].sources:
        return [
            f"`{place}.sources` (={methods[name].sources}) must be that of `{reused}`, whose"
            " evaluations it reuses: set both alike"
        ]
    if methods[reused].prior != methods[name].prior:
        return [
            f"`{place}.prior` must be that of `{reused}`, whose evaluations it reuses: set both"
            " alike"
        ]
    chain = [name]
    while getattr(methods.get(chain[-1]), "reuse", ""):
        chain.append(methods[chain[-1]].reuse)
        if chain[-1] in chain[:-1]:
            return [
                f"`{place}.reuse` goes in a circle ({' -> '.join(chain)}): let one of them start"
                " without"
            ]
    return []
