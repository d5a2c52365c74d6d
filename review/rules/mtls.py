"""Mutual TLS: nothing in the mesh accepts plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from review.model import Options, Resource, Violation
from review.values import UNKNOWN_STRING, known, mapping


def strict(resource: Resource, _: Options) -> Iterable[str]:
    """Modes of a PeerAuthentication other than STRICT; one that names no mode takes over whatever is above it."""
    spec = resource.inputs.get("spec")
    if resource.kind != "PeerAuthentication" or not known(spec):
        return
    ports = mapping(mapping(spec).get("portLevelMtls"))
    modes = {"mtls": mapping(spec).get("mtls"), **{f"portLevelMtls.{port}": mode for port, mode in ports.items()}}
    for place, setting in modes.items():
        mode = mapping(setting).get("mode", "UNSET") if known(setting) else UNKNOWN_STRING
        if known(mode) and mode != "STRICT":
            yield f"spec.{place}.mode is {mode}: plain text would be accepted; say STRICT"


def mesh_wide(resources: Sequence[Resource], options: Options) -> Iterable[Violation]:
    """A mesh without a PeerAuthentication for all of it: Istio's own default is PERMISSIVE."""
    if not any(_is_istiod(resource) for resource in resources):
        return
    if not any(_is_mesh_wide(resource, options["rootNamespace"]) for resource in resources):
        yield Violation(
            f"no PeerAuthentication in {options['rootNamespace']} is the whole mesh's, so sidecars accept plain text; "
            "add one of mode STRICT without a selector"
        )


def _is_istiod(resource: Resource) -> bool:
    chart = str(resource.inputs.get("chart", ""))
    return resource.type.startswith("kubernetes:helm.sh/") and chart.rpartition("/")[2] == "istiod"


def _is_mesh_wide(resource: Resource, root: str) -> bool:
    """A namespace that is not known yet may be the root."""
    namespace = mapping(resource.inputs.get("metadata")).get("namespace")
    selector = mapping(resource.inputs.get("spec")).get("selector")
    return resource.kind == "PeerAuthentication" and namespace in (root, UNKNOWN_STRING) and not selector
