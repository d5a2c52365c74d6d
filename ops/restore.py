"""Puts right what someone deleted or changed in the cluster, and what killed runs left there of their own.

Changed objects are applied again as the state has them, in the name that the provider applies them in: Pulumi then finds the world as it
knows it. What is gone is for the state to forget, so that `up` makes it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from actions.kube import ApiCluster, ApiObject, KubeError, wait
from actions.protocol import Deadline
from ops import state
from ops.objects import Differences, added, manager, strangers
from ops.places import Found, Place

GONE_SECONDS = 120
"""How long an object that is being deleted may take: a namespace waits for all that is in it."""
WEBHOOK_SECONDS = 30
"""How long a webhook that has to agree may take to come up."""


def put_right(deployment: state.Deployment, differences: Differences, cluster: ApiCluster) -> list[str]:
    """Put objects back as they were applied; what cannot be is told, and left.

    Args:
        deployment: the stack's state, with its secrets in the clear.
        differences: how the cluster differs from it.
        cluster: the cluster.

    Returns:
        The URNs of objects that are gone.
    """
    resources = {resource["urn"]: resource for resource in state.resources(deployment)}
    touched = list(dict.fromkeys([*differences.changed, *differences.shared]))
    live = Found(cluster, [differences.places[urn] for urn in touched])
    gone = list(differences.gone)
    for urn in touched:
        place = differences.places[urn]
        path, found = live.path(place), live.get(place)
        if found is None or path is None:
            gone.append(urn)
            continue
        if found["metadata"].get("deletionTimestamp"):
            gone += [urn] if _goes(cluster, path, place) else []
            continue
        if urn in differences.changed:
            print(f"repair: {place} was changed ({differences.changed[urn]}); it is put back")
        try:
            _put_back(cluster, path, place, resources[urn], found)
        except KubeError as error:
            print(f"repair: going on, though {place} could not be put back: {error}")
    for urn in gone:
        print(f"repair: {differences.places[urn]} is gone; it is made again if it is still wanted")
    return gone


def _goes(cluster: ApiCluster, path: str, place: Place) -> bool:
    print(f"repair: waiting for {place} to be gone, which is being deleted")
    if why := wait(lambda: "it is still there" if cluster.get(path) else None, Deadline(GONE_SECONDS)):
        print(f"repair: going on, though {place} is still being deleted: {why}")
    return not why


def _put_back(cluster: ApiCluster, path: str, place: Place, resource: Mapping[str, Any], live: ApiObject) -> None:
    own = manager(resource)
    if others := [{"op": "remove", "path": _pointer(path)} for path in added(resource, live)]:
        live = cluster.edit(path, others)
    leave_nothing_to_others(cluster, path, live, own)
    wanted = applied(resource, place)

    def apply() -> None:
        cluster.apply(path, wanted, own)

    if why := wait(apply, Deadline(WEBHOOK_SECONDS), pause=1):
        raise KubeError(why)


def leave_nothing_to_others(cluster: ApiCluster, path: str, live: ApiObject, own: str) -> None:
    """Make what other runs' field managers own of an object its own one's: a field of theirs could never be changed, nor dropped."""
    others = strangers(live, own)
    if not others:
        return
    entries: list[Mapping[str, Any]] = live["metadata"]["managedFields"]
    before = next((one for one in entries if (one["manager"], one["operation"]) == (own, "Apply")), None)
    mine = [before] if before else []
    fields = reduce(_both, (one.get("fieldsV1") or {} for one in [*mine, *others]), {})
    merged = {**(before or others[0]), "manager": own, "fieldsV1": fields}
    kept = [one for one in entries if one not in others and one is not before]
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]}
    cluster.edit(path, [version, {"op": "replace", "path": "/metadata/managedFields", "value": [*kept, merged]}])


def _both(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {**a, **{key: _both(a.get(key) or {}, value) for key, value in b.items()}}


def applied(resource: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The object that a resource's inputs ask for."""
    inputs: dict[str, Any] = state.reveal(resource["inputs"])
    metadata = {key: value for key, value in inputs.get("metadata", {}).items() if key != "namespace"}
    return {
        **{key: value for key, value in inputs.items() if not key.startswith("__")},
        "apiVersion": place.api_version,
        "kind": place.kind,
        "metadata": metadata | {"name": place.name} | ({"namespace": place.namespace} if place.namespace else {}),
    }


def _pointer(path: Sequence[str]) -> str:
    return "".join(f"/{key.replace('~', '~0').replace('/', '~1')}" for key in path)
