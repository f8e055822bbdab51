"""Checks of what flows learn from: pairs of low or of high fidelity, and another flow's weights."""

from __future__ import annotations

import dataclasses

from pflow.config.experiment import ExperimentSettings
from pflow.settings.suggestion import did_you_mean

__all__ = ["mistakes_of_flow_pairs"]

OF_TRAINING = ("pretrain", "start", "pairs")  # no architecture


def mistakes_of_flow_pairs(where: str, experiment: ExperimentSettings) -> list[str]:
    """Pairs that are missing or unused, and starts that cannot be, in words."""
    mistakes = _of_high_fidelity_pairs(where, experiment)
    for name in experiment.flows:
        mistakes += _of_start(f"{where}.flows", name, experiment)
    return mistakes


def _of_high_fidelity_pairs(where: str, experiment: ExperimentSettings) -> list[str]:
    pairs, place = experiment.high_fidelity_pairs, f"{where}.high_fidelity_pairs"
    users = [name for name, flow in experiment.flows.items() if flow.pairs == "high_fidelity"]
    if pairs is None:
        return [
            f"`{where}.flows.{name}.pairs` (=high_fidelity) needs `{place}`: name their file there"
            for name in users
        ]
    mistakes = list(pairs.mistakes(place))
    if not users:
        mistakes.append(
            f"`{place}` is used by no flow: set `pairs: high_fidelity` of one of `{where}.flows`"
        )
    _, *shapes = pairs.shapes(place)
    for key, name, found in zip(("model_shape", "data_shape"), ("x", "y"), shapes, strict=True):
        wanted = getattr(experiment.problem, key, None)
        if wanted is not None and tuple(wanted) != found:
            mistakes.append(
                f"`{place}` has the shape {list(found)} of one {name}, and the experiment has"
                f" {list(wanted)}: bring {pairs.file} to that shape"
            )
    return mistakes


def _of_start(where: str, name: str, experiment: ExperimentSettings) -> list[str]:
    flows = experiment.flows
    flow, start = flows[name], flows[name].start
    if not start:
        return []
    if start not in flows:
        others = [other for other in flows if other != name]
        known = f"there is {', '.join(others) or 'none'}"
        return [
            f"`{where}.{name}.start` (='{start}') must name another flow:"
            f" {did_you_mean(start, others, known)}"
        ]
    chain = [name]
    while flows[chain[-1]].start in flows:
        chain.append(flows[chain[-1]].start)
        if chain[-1] in chain[:-1]:
            return [
                f"`{where}.{name}.start` goes in a circle ({' -> '.join(chain)}): let one of them"
                " start without"
            ]
    if type(flows[start]) is not type(flow):
        return [
            f"`{where}.{name}.name` (={flow.tag_value}) must be that of `{start}`, whose weights it"
            f" starts from: {flows[start].tag_value}"
        ]
    return [
        f"`{where}.{name}.{field.name}` (={getattr(flow, field.name)}) must be that of `{start}`,"
        f" whose weights it starts from: {getattr(flows[start], field.name)}"
        for field in dataclasses.fields(flow)
        if field.name not in OF_TRAINING
        and getattr(flow, field.name) != getattr(flows[start], field.name)
    ]
