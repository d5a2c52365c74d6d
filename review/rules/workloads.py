"""Containers say what they need and what they may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from review.model import Options, Resource
from review.values import known, mapping, sequence

_POD_SPECS = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template", "spec")),
}


def bounded(resource: Resource, options: Options) -> Iterable[str]:
    """Containers without a request or a limit."""
    if resource.kind not in _POD_SPECS:
        return
    pod = resource.inputs
    for key in _POD_SPECS[resource.kind]:
        pod = mapping(pod.get(key))
    for container in [*sequence(pod.get("initContainers")), *sequence(pod.get("containers"))]:
        if missing := list(_missing(mapping(container), options)):
            yield f"container {mapping(container).get('name')} has no {', '.join(missing)}: say what it needs and what it may take"


def _missing(container: Mapping[str, Any], options: Options) -> Iterable[str]:
    resources = container.get("resources")
    if not known(resources):
        return
    for kind in ("requests", "limits"):
        given = mapping(resources).get(kind)
        yield from (f"{kind}.{name}" for name in options[kind] if known(given) and name not in mapping(given))
