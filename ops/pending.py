"""Operations that were under way when a run was killed: Pulumi does not know how they ended, so the world is asked.

The engine notes an operation before it begins it, and what came of it afterwards. Whatever the settings say by now, what exists belongs in
the state: then the same `up` keeps it, changes it or deletes it.

- A Kubernetes object that was being created is taken into the state, or is not there.
- Objects, releases and commands that were being changed or deleted are brought to what is wanted once more: for a command by its update,
  which may always be run again.
- A Helm release that was being installed is removed; it is installed again.
- Machines are looked for with their driver after `up`, when it is known which are wanted.
- Existing hosts and clusters that were being taken are given back, and taken again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actions.cluster.claim import NOTE
from actions.kube import ApiCluster, ApiObject, KubeError
from actions.registry import CLAIM, DELETE, ENSURE, RELEASE
from ops import machines, releases, state
from ops.editing import Change, adopt, finish, forget, keep_pending
from ops.errors import OpsError
from ops.objects import MANAGER, RUNS, place, recorded
from ops.objects import RELEASE as HELM_RELEASE
from ops.places import Found, Place
from ops.restore import leave_nothing_to_others
from ops.workspace import Stack

CUT_OFF = "the run that was at work on it was cut off"
_UNDONE_BY = {CLAIM.name: RELEASE, ENSURE.name: DELETE}
"""What takes something that another one has made, and what gives it back."""
_TYPES = ("command:", "kubernetes:")
_MADE_BY_PULUMI = "pulumi-kubernetes"
Operation = Mapping[str, Any]


@dataclass
class _Known:
    """What the state has."""

    deployment: state.Deployment
    urns: dict[str, Mapping[str, Any]] = field(init=False)
    places: set[Place] = field(init=False)

    def __post_init__(self) -> None:
        resources = [one for one in state.resources(self.deployment) if not one.get("pendingReplacement")]
        self.urns = {one["urn"]: one for one in resources}
        self.places = {place(one) for one in recorded(self.deployment)}

    def has_what_takes(self, document: Mapping[str, Any]) -> bool:
        """Whether a resource of the state has taken the host, or the cluster, that such a document is about."""
        if document.get("driver") is None:
            return any(state.requests(self.deployment, CLAIM))
        taken = [one for _, one in state.requests(self.deployment, ENSURE) if one["driver"] == machines.EXISTING]
        return any(_host(one) == _host(document) for one in taken)


def tell(pending: Sequence[Operation]) -> None:
    """Say what was under way."""
    names = ", ".join(sorted({state.name(operation["resource"]["urn"]) for operation in pending}))
    print(f"repair: an earlier run was cut off while it worked on {names}")


def machines_of(pending: Sequence[Operation]) -> list[str]:
    """The names of machines that were being made, or whose nodes were."""
    begun = [state.name(one["resource"]["urn"]) for one in pending if one["type"] == "creating"]
    return [name.removesuffix(end) for name in begun for end in ("-machine", "-k3s", "-node") if name.endswith(end)]


def settle(
    stack: Stack, deployment: state.Deployment, pending: Sequence[Operation], cluster: ApiCluster | None
) -> list[Change]:
    """Find out what became of each operation: what has to change in the state.

    Args:
        stack: the stack.
        deployment: its state, with its secrets in the clear.
        pending: the operations that were under way.
        cluster: the cluster; None when it does not answer, or there is none yet.
    """
    known = _Known(deployment)
    begun = list(_being_taken([one for one in pending if one["resource"]["urn"] not in known.urns]))
    not_yet = _give_back_softly(stack, [one for one in begun if not known.has_what_takes(one[2])])
    creating = [one["resource"] for one in pending if one["type"] == "creating"]
    objects = [one for one in creating if one["type"].startswith("kubernetes:") and one["type"] != HELM_RELEASE]
    others = [one["resource"] for one in pending if one["type"] in ("updating", "deleting")]
    unfinished = {one["urn"] for one in others if one["type"].startswith(_TYPES)}
    changes = [finish(unfinished, CUT_OFF)] if unfinished else []
    if given_back := [one["urn"] for one in others if _was_given_back(one)]:
        changes.append(forget(given_back))
    kubeconfig = state.kubeconfig(deployment)
    if cluster and kubeconfig:
        _clear_releases(stack, creating, kubeconfig)
        changes += _objects(objects, known, cluster)
        objects = []
    # Without an answer they stay pending for a run that gets one.
    return [*changes, keep_pending({*not_yet, *(one["urn"] for one in objects if kubeconfig)})]


def give_back(stack: Stack, pending: Sequence[Operation]) -> None:
    """Give back hosts and clusters that were being taken: what they have of the stack is in no state.

    Raises:
        OpsError: one could not be.
    """
    for urn, undo, document in _being_taken(pending):
        print(f"repair: giving back {state.name(urn)}, which was being taken")
        stack.act(undo, document)


def _give_back_softly(stack: Stack, begun: Sequence[tuple[str, state.AnyAction, dict[str, Any]]]) -> list[str]:
    """The same before `up`, which takes them again if they are wanted; the URNs of those that could not be given back now."""
    failed: list[str] = []
    for urn, undo, document in begun:
        print(f"repair: giving back {state.name(urn)}, which was being taken")
        try:
            stack.act(undo, document)
        except OpsError as error:
            print(f"repair: going on, though it could not be: {error}")
            failed.append(urn)
    return failed


def _being_taken(pending: Sequence[Operation]) -> Iterator[tuple[str, state.AnyAction, dict[str, Any]]]:
    """Each existing host and cluster that was being taken: its URN, what undoes that, and the document it reads."""
    for resource in (one["resource"] for one in pending if one["type"] == "creating"):
        if undo := _UNDONE_BY.get(state.action_of(resource) or ""):
            document = json.loads(state.reveal(resource["inputs"])["stdin"])
            if document.get("driver") in (None, machines.EXISTING):
                yield resource["urn"], undo, document


def _host(machine: Mapping[str, Any]) -> tuple[Any, Any]:
    options = machine.get("options", {})
    return options.get("host"), options.get("port")


def _was_given_back(resource: Mapping[str, Any]) -> bool:
    """Whether an existing cluster was being given back, and has no note of the stack any more."""
    if state.action_of(resource) != CLAIM.name:
        return False
    try:
        return ApiCluster(json.loads(state.reveal(resource["inputs"])["stdin"])["kubeconfig"]).get(NOTE) is None
    except KubeError:
        return False


def _clear_releases(stack: Stack, creating: Sequence[Mapping[str, Any]], kubeconfig: str) -> None:
    """Uninstall releases that were being installed."""
    begun = [one for one in creating if one["type"] == HELM_RELEASE]
    if not begun:
        return
    with releases.helm(stack, kubeconfig) as run:
        for resource in begun:
            inputs = state.reveal(resource.get("inputs") or {})
            if name := inputs.get("name"):
                print(f"repair: removing the Helm release {name}, which was being installed")
                releases.uninstall(run, name, inputs.get("namespace") or "default")
            else:
                print(f"repair: {state.name(resource['urn'])} has a generated name and is left as it is")


def _objects(creating: Sequence[Mapping[str, Any]], known: _Known, cluster: ApiCluster) -> Iterator[Change]:
    """Take objects that a killed run has made into the state."""
    places = {one["urn"]: _wanted_place(one) for one in creating}
    found = Found(cluster, places.values())
    for urn, wanted in places.items():
        live, path = found.get(wanted), found.path(wanted)
        if live is None or path is None or live["metadata"].get("deletionTimestamp"):
            continue
        if wanted in known.places or not _managers(live):
            continue
        if urn in known.urns:
            # It was to take the place of one of another name, which is still there and is replaced again if that is still wanted.
            print(f"repair: removing {wanted}, which a run that was cut off has made")
            cluster.delete(path)
            continue
        print(f"repair: {wanted} was made by a run that was cut off; it goes into the state")
        yield _adopted(urn, found.named(wanted), live, path, cluster)


def _wanted_place(resource: Mapping[str, Any]) -> Place:
    metadata = state.reveal((resource.get("inputs") or {}).get("metadata")) or {}
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    return place({**resource, "id": f"{namespace}/{name}" if namespace else name})


def _adopted(urn: str, wanted: Place, live: ApiObject, path: str, cluster: ApiCluster) -> Change:
    # Without upsert the provider makes objects in a name that it takes over at the first update, in one that it makes up then.
    runs = [name for name in _managers(live) if name.startswith(RUNS)]
    own = runs[-1] if runs else f"{RUNS}{secrets.token_hex(4)}"
    try:
        leave_nothing_to_others(cluster, path, live, own)
    except KubeError as error:
        print(f"repair: going on, though earlier runs still own fields of {wanted}: {error}")
    outputs = {**live, "__initialApiVersion": live["apiVersion"], MANAGER: own}
    resource_id = f"{wanted.namespace}/{wanted.name}" if wanted.namespace else wanted.name
    return adopt(urn, resource_id, outputs, CUT_OFF)


def _managers(live: ApiObject) -> list[str]:
    """The field managers by which Pulumi's provider has made or changed an object, the latest last; none when it is somebody else's."""
    entries = sorted(live["metadata"].get("managedFields", []), key=lambda one: one.get("time", ""))
    return [
        one["manager"] for one in entries if one["manager"].startswith(_MADE_BY_PULUMI) and not one.get("subresource")
    ]
