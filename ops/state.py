"""Reading a deployment: what `pulumi stack export --show-secrets` prints under `deployment`.

A secret is an object with Pulumi's own signature and its value as JSON under `plaintext`; see `sdk/go/common/resource/properties.go`
and `pkg/resource/stack/deployment.go` in Pulumi's sources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from actions.protocol import MARKER, Action

SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - the signature's key, the same in every state
_FORMER = re.compile(r"python3 -m components\.(?P<room>\w+) (?P<verb>[\w-]+)")
"""How resources were made before they had a marker."""
AnyAction = Action[Any, Any]
Deployment = Mapping[str, Any]


def reveal(value: Any) -> Any:
    """The value with every secret in it in the clear."""
    if isinstance(value, dict):
        if SECRET in value:
            return reveal(json.loads(value["plaintext"]))
        return {key: reveal(inner) for key, inner in value.items()}
    return [reveal(inner) for inner in value] if isinstance(value, list) else value


def resources(deployment: Deployment) -> list[Mapping[str, Any]]:
    """The resources, in the order they depend on each other; none in a new stack."""
    return deployment.get("resources") or []


def name(urn: str) -> str:
    """The name of a resource in the program."""
    return urn.rsplit("::", 1)[-1]


def outputs(deployment: Deployment) -> dict[str, Any]:
    """What the program exported; empty before the first `up`."""
    stacks = (r for r in resources(deployment) if r["type"] == "pulumi:pulumi:Stack")
    return reveal(next(stacks, {}).get("outputs") or {})


def kubeconfig(deployment: Deployment) -> str | None:
    """The cluster's kubeconfig, also when the run that made it never got to its outputs."""
    providers = (r for r in resources(deployment) if r["type"] == "pulumi:providers:kubernetes")
    return next((config for r in providers if (config := reveal(r.get("inputs", {})).get("kubeconfig"))), None)


def namespaces(deployment: Deployment) -> dict[str, str]:
    """The namespaces of the program, and the revision of the sidecars that their pods get; empty where they get none."""
    found = (r for r in resources(deployment) if r["type"] == "kubernetes:core/v1:Namespace")
    metadata = [reveal(r.get("inputs") or {})["metadata"] for r in found]
    return {one["name"]: (one.get("labels") or {}).get("istio.io/rev", "") for one in metadata}


def requests(deployment: Deployment, action: AnyAction) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `components.action.run` had done: the URN of each resource of that action, and the request it read."""
    for resource in _done(deployment, action):
        yield resource["urn"], json.loads(reveal(resource["inputs"]["stdin"]))


def results(deployment: Deployment, action: AnyAction) -> dict[str, Any]:
    """The results that those resources have, by URN."""
    ran = (resource for resource in _done(deployment, action) if "stdout" in resource.get("outputs", {}))
    return {resource["urn"]: json.loads(reveal(resource["outputs"]["stdout"])) for resource in ran}


def changed_at(deployment: Deployment, urn: str) -> datetime | None:
    """When Pulumi last made or changed a resource: for a command, when it ran."""
    when = next((r.get("modified") for r in resources(deployment) if r["urn"] == urn), None)
    return datetime.fromisoformat(when) if when else None


def action_of(resource: Mapping[str, Any]) -> str | None:
    """The name of the action that a resource of a state, or of a preview, has done; None of another resource."""
    if resource["type"] != "command:local:Command":
        return None
    inputs = resource.get("inputs") or {}
    if marked := (inputs.get("environment") or {}).get(MARKER):
        return marked
    former = _FORMER.fullmatch(str(inputs.get("create")))
    return former and f"{former['room']}.{former['verb']}"


def _done(deployment: Deployment, action: AnyAction) -> Iterator[Mapping[str, Any]]:
    return (resource for resource in resources(deployment) if action_of(resource) == action.name)
