"""States of a time when resources were named after whoever made an object: they get the names that objects have now.

The program has aliases for such states, which previews and runs by hand go by. An alias leads from an object to the makers that the
settings have now, and takes over one resource of the state. It misses a maker that was renamed or removed since, and the second of two
resources that held one object; the engine would delete those, and with them an object that another resource holds by then. The state
knows better than that: it has the objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.names import resource_name
from ops import state

_MAKERS = (
    "istio-vms:workloads:VmWorkload",
    "istio-vms:samples:Helloworld",
    "istio-vms:mesh:TrafficRouting",
    "istio-vms:mesh:MeshPolicies",
)
_SHARED = ("Service", "ServiceAccount")
"""Kinds that no component has any more."""
_KINDS = (*_SHARED, "AuthorizationPolicy", "Deployment", "DestinationRule", "VirtualService", "WorkloadGroup")


def former(deployment: state.Deployment) -> dict[str, str]:
    """The former URNs in a state, each with the one that its object has now."""
    found = {r["urn"]: _now(r) for r in state.resources(deployment) if not r.get("delete")}
    return {urn: now for urn, now in found.items() if now}


def _now(resource: Mapping[str, Any]) -> str | None:
    rest, _, name = resource["urn"].rpartition("::")
    before, _, types = rest.rpartition("::")
    maker, _, own_type = types.rpartition("$")
    kind = own_type.rpartition(":")[2]
    if maker not in _MAKERS or kind not in _KINDS or "/" in name:
        return None
    metadata = state.reveal(resource["inputs"]["metadata"])
    named = resource_name(kind, (metadata["namespace"], metadata["name"]))
    return f"{before}::{own_type if kind in _SHARED else types}::{named}"


def rename(deployment: dict[str, Any], names: Mapping[str, str]) -> None:
    """Give a state the names of `former`. Of two resources that hold an object one is left."""
    root = next(r["urn"] for r in state.resources(deployment) if r["type"] == "pulumi:pulumi:Stack")
    kept: list[dict[str, Any]] = []
    known = {r["urn"] for r in state.resources(deployment) if not r.get("delete")}
    for resource in state.resources(deployment):
        now = names.get(resource["urn"]) if not resource.get("delete") else None
        if now in known:
            continue
        made = {**resource, **{key: _renamed(resource[key], names) for key in _REFERENCES if key in resource}}
        if now:
            known.add(now)
            made["urn"] = now
            made["parent"] = made["parent"] if "$" in now else root
        kept.append(made)
    deployment["resources"] = kept


_REFERENCES = ("dependencies", "propertyDependencies", "deletedWith", "parent")


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return list(dict.fromkeys(_renamed(inner, names) for inner in value))
    return names.get(value, value)
