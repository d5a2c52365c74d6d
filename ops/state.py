"""Reading a deployment: what `pulumi stack export --show-secrets` prints under `deployment`.

A secret is an object with Pulumi's own signature and its value as JSON under `plaintext`; see `sdk/go/common/resource/properties.go`
and `pkg/resource/stack/deployment.go` in Pulumi's sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - the signature's key, the same in every state
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


def documents(deployment: Deployment, module: str, verb: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `components.local_command.run_module` ran: the URN of each command of that module and verb, and the document it read."""
    for resource in _commands(deployment, module, verb):
        yield resource["urn"], json.loads(reveal(resource["inputs"]["stdin"]))


def answers(deployment: Deployment, module: str, verb: str) -> dict[str, Any]:
    """The documents that those commands printed, by URN."""
    ran = (resource for resource in _commands(deployment, module, verb) if "stdout" in resource.get("outputs", {}))
    return {resource["urn"]: json.loads(reveal(resource["outputs"]["stdout"])) for resource in ran}


def changed_at(deployment: Deployment, urn: str) -> datetime | None:
    """When Pulumi last made or changed a resource: for a command, when it ran."""
    when = next((r.get("modified") for r in resources(deployment) if r["urn"] == urn), None)
    return datetime.fromisoformat(when) if when else None


def _commands(deployment: Deployment, module: str, verb: str) -> Iterator[Mapping[str, Any]]:
    for resource in resources(deployment):
        inputs = resource.get("inputs") or {}
        if resource["type"] == "command:local:Command" and inputs.get("create") == f"python3 -m {module} {verb}":
            yield resource
