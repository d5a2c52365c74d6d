"""Changes of a stack's state. They go through Pulumi's own export and import, so that every back end will do; secrets stay encrypted."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ops import state
from ops.files import lent_file
from ops.workspace import Stack

Change = Callable[[dict[str, Any]], None]
"""Changes a deployment as `pulumi stack export` prints it, with its secrets encrypted."""
_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
"""What Pulumi knows a secret by: `sdk/go/common/resource/sig` in its sources."""


def edit(stack: Stack, changes: Sequence[Change]) -> None:
    """Make the changes; nothing when there are none."""
    if not changes:
        return
    document = json.loads(stack.pulumi("stack", "export", "--stack", stack.name))
    for change in changes:
        change(document["deployment"])
    with lent_file(stack.folder, "state.json", json.dumps(document)) as file:
        stack.pulumi("stack", "import", "--stack", stack.name, "--file", str(file))


def forget(urns: Collection[str]) -> Change:
    """What is gone from the world goes from the state, and nothing depends on it any more."""

    def change(deployment: dict[str, Any]) -> None:
        kept = [one for one in deployment.get("resources") or [] if one["urn"] not in urns or one.get("delete")]
        for resource in kept:
            if resource.get("dependencies"):
                resource["dependencies"] = [urn for urn in resource["dependencies"] if urn not in urns]
            for key, needed in (resource.get("propertyDependencies") or {}).items():
                resource["propertyDependencies"][key] = [urn for urn in needed or [] if urn not in urns]
            if resource.get("deletedWith") in urns:
                del resource["deletedWith"]
        deployment["resources"] = kept

    return change


def finish(urns: Collection[str], why: str) -> Change:
    """Have Pulumi bring these to what is wanted once more, though it believes that they are: as after a failure to become ready."""

    def change(deployment: dict[str, Any]) -> None:
        for resource in deployment.get("resources") or []:
            if resource["urn"] in urns and resource.get("id") and not _is_going(resource):
                resource["initErrors"] = [why]

    return change


def keep_pending(kept: Collection[str]) -> Change:
    """Forget which operations were under way, but for creations of these."""

    def change(deployment: dict[str, Any]) -> None:
        pending = deployment.get("pending_operations") or []
        deployment["pending_operations"] = [
            one for one in pending if one["type"] == "creating" and one["resource"]["urn"] in kept
        ]

    return change


def adopt(urn: str, resource_id: str, outputs: Mapping[str, Any], why: str) -> Change:
    """Take what a killed run was creating into the state, to be brought to what is wanted, or deleted, by the next `up`.

    Args:
        urn: the resource, of which the state has a pending creation.
        resource_id: the id that its provider would have given it.
        outputs: what its provider would have returned, without secrets' marks; those of the inputs count for the same fields.
        why: that it was not finished.
    """

    def change(deployment: dict[str, Any]) -> None:
        begun = next(
            one["resource"]
            for one in deployment["pending_operations"]
            if one["type"] == "creating" and one["resource"]["urn"] == urn
        )
        inputs = begun.get("inputs") or {}
        entry = {**begun, "id": resource_id, "outputs": {**_marked(outputs, inputs), "__inputs": inputs}}
        others = [one for one in deployment["resources"] if one["urn"] != urn or not one.get("pendingReplacement")]
        deployment["resources"] = _in_order([*others, {**entry, "initErrors": [why]}])

    return change


def _is_going(resource: Mapping[str, Any]) -> bool:
    return bool(resource.get("delete") or resource.get("pendingReplacement"))


def _marked(outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs that are as secret as the inputs at the same places, and the data of a Secret whatever its inputs."""
    secret = [key for key, value in inputs.items() if isinstance(value, dict) and state.SECRET in value]
    secret += ["data", "stringData"] if outputs.get("kind") == "Secret" else []
    marked: dict[str, Any] = {}
    for key, value in outputs.items():
        given = inputs.get(key)
        if key in secret:
            marked[key] = {state.SECRET: _SIGNATURE, "plaintext": json.dumps(value)}
        elif isinstance(value, dict) and isinstance(given, dict):
            marked[key] = _marked(value, given)
        else:
            marked[key] = value
    return marked


def _in_order(resources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same resources, each after all that it depends on, and otherwise as they were."""
    left, ordered = list(resources), list[dict[str, Any]]()
    while left:
        waiting = {one["urn"] for one in left}
        ready = next((one for one in left if not _needs(one) & (waiting - {one["urn"]})), left[0])
        left.remove(ready)
        ordered.append(ready)
    return ordered


def _needs(resource: Mapping[str, Any]) -> set[str]:
    needed = [resource.get("parent"), resource.get("deletedWith"), *(resource.get("dependencies") or [])]
    needed += [urn for urns in (resource.get("propertyDependencies") or {}).values() for urn in urns or []]
    provider = resource.get("provider") or ""
    return {urn for urn in [*needed, provider.rpartition("::")[0]] if urn}
