"""What a killed run leaves behind, and what someone changed by hand, put right before the next one.

- A lock of a process that is no more.
- Operations that were under way: `ops/pending.py` asks the world how they ended.
- Objects in the cluster that are gone or are not what was applied, Helm releases that lack some or were left in the middle of something:
  `ops/objects.py` finds them, `ops/restore.py` and `ops/releases.py` put them right.
- Machines that are in the state but do not run, for instance after a reboot: they are started, their disks are as they were.
- Machines that are reached at another address, as Multipass's may be after each start: the state is told, so that `up` changes what
  depends on it.
- Machines that were begun and never got into the state: `up` removes those that are not wanted, `down` all of them.
- Existing hosts and clusters that were being taken are given back.
- Nodes that someone deleted from the cluster: see `nodes`.
- Readings of the cluster that are not true any more, such as a gateway's addresses: Pulumi is made to take them again.
- Resources by the names that an earlier version of the program gave them: see `naming`.
- Pods without the sidecar of the state's revision: it is made to restart them.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actions.cluster.claim import NOTE
from actions.kube import ApiCluster, KubeError, Unreachable, wait
from actions.protocol import Deadline
from actions.registry import CLAIM, DELETE, LIST
from ops import lock as lock_of
from ops import machines, naming, nodes, pending, protection, readings, releases, revision, servers, state, workspace
from ops.editing import Change, edit, forget, keep_pending
from ops.errors import OpsError
from ops.files import secret_file
from ops.objects import compare
from ops.restore import put_right
from ops.workspace import PROJECT, Stack

CLUSTER_SECONDS = 45
"""How long a cluster that may just have been started gets before what is unfinished there is left alone."""


@dataclass(frozen=True)
class Repaired:
    """What `up` has to know of a repair.

    Attributes:
        started: names of machines that did not run.
        replace: URNs of what Pulumi has to recreate: machines that are gone, readings that are outdated, restarts of pods.
        compared: whether the cluster could be compared with the state; not while machines, nodes and cluster are coming up.
        again: whether the state has forgotten what is gone, which Pulumi has to make again.
        begun: names of machines that a run was cut off at, or that the state does not have: after `up` it is known which are wanted.
        moved: names of machines that have other addresses; the state has them already.
        back: names of nodes that were deleted, and came back.
    """

    started: Sequence[str] = ()
    replace: Sequence[str] = ()
    compared: bool = True
    again: bool = False
    begun: Sequence[str] = ()
    moved: Sequence[str] = ()
    back: Sequence[str] = ()

    @property
    def suspects(self) -> set[str]:
        """Machines of which the cluster may say what was true before."""
        return {*self.started, *self.moved, *self.back}


def repair(stack: Stack, to_destroy: bool = False) -> Repaired:
    """Bring the stack to where `up` and `destroy` can work; quiet when there is nothing to do.

    Args:
        stack: the stack.
        to_destroy: leave alone what need not be well to be destroyed: machines, the cluster.
    """
    _clear_dead_lock(stack)
    deployment = stack.deployment()
    under_way = deployment.get("pending_operations") or []
    if under_way:
        pending.tell(under_way)
    if to_destroy:
        _check_existing_cluster(stack, deployment)
        if under_way:
            pending.give_back(stack, under_way)
            edit(stack, [keep_pending(())])
        return Repaired()
    repaired, moved = _start_machines(stack, deployment)
    revision.refuse(stack, deployment)
    changes: list[Change] = [_follow_machines(moved)] if moved else []
    if under_way:
        changes += pending.settle(stack, deployment, under_way, None if moved else _cluster(deployment))
        repaired = replace(repaired, begun=sorted({*repaired.begun, *pending.machines_of(under_way)}))
    deployment = _edited(stack, deployment, changes)
    if former := naming.former(deployment):
        print(f"repair: the state has {len(former)} resources by the names of an earlier version; they are renamed")
        deployment = _edited(stack, deployment, [lambda edited: naming.rename(edited, former)])
    repaired = replace(repaired, back=nodes.bring_back(stack, deployment))
    if repaired.suspects:
        # While machines start, what the cluster says is old, or of the moment: comparing has to wait until all of it is up.
        return replace(repaired, compared=False)
    return repair_cluster(stack, deployment, repaired)


def _edited(stack: Stack, deployment: state.Deployment, changes: Sequence[Change]) -> state.Deployment:
    """The state with the changes."""
    edit(stack, changes)
    return stack.deployment() if changes else deployment


def repair_cluster(stack: Stack, deployment: state.Deployment, repaired: Repaired) -> Repaired:
    """Put right what is not as the state has it in the cluster; quick when all of it is.

    Args:
        stack: the stack.
        deployment: its state.
        repaired: what has been done already.

    Returns:
        The same with what is done here; `compared` says whether the cluster let us look.
    """
    kubeconfig = state.kubeconfig(deployment)
    outdated = readings.outdated(deployment)
    again = [*repaired.replace, *(outdated or []), *revision.left_behind(deployment)]
    if not kubeconfig or outdated is None:
        return replace(repaired, replace=again, compared=outdated is not None)
    try:
        cluster = ApiCluster(kubeconfig)
        found = compare(deployment, cluster)
        gone = releases.put_right(stack, deployment, found, cluster, kubeconfig)
        gone += put_right(deployment, found, cluster)
    except KubeError as error:
        print(f"repair: what is in the cluster cannot be compared: {error}")
        return replace(repaired, replace=again, compared=False)
    edit(stack, [forget(gone)] if gone else [])
    return replace(repaired, replace=again, again=bool(gone))


def _clear_dead_lock(stack: Stack) -> None:
    """A local back end's lock is a file that names the process; Pulumi itself never looks whether it still lives."""
    if not stack.local_backend:
        return
    for path in stack.local_backend.glob(f".pulumi/locks/**/{stack.name}/*.json"):
        try:
            lock = json.loads(path.read_text())
        except FileNotFoundError:
            continue  # its process has just ended
        here = lock.get("hostname") == socket.gethostname()
        if here and not pulumi_runs(lock["pid"]):
            print(f"repair: removing the lock of process {lock['pid']}, which is no more")
            path.unlink(missing_ok=True)
        else:
            raise OpsError(
                f"stack {stack.name} is being worked on by process {lock['pid']} of {lock.get('username')} on {lock.get('hostname')} since "
                f"{lock.get('timestamp')}. {'Wait for its end' if here else lock_of.if_dead(stack.name)}"
            )


def pulumi_runs(pid: int) -> bool:
    """Whether a process of that number is there and is Pulumi: after a reboot the number may be another's."""
    # One -o each: with both in one, macOS takes the second for the first one's heading.
    seen = subprocess.run(
        ["ps", "-p", str(pid), "-o", "stat=", "-o", "comm="], text=True, capture_output=True, check=False
    ).stdout.split(maxsplit=1)
    return len(seen) == 2 and not seen[0].startswith("Z") and Path(seen[1].strip()).name == "pulumi"


def _check_existing_cluster(stack: Stack, deployment: state.Deployment) -> None:
    """See, before anything is destroyed, that the cluster of someone else can be given back: what is there goes object by object.

    Raises:
        OpsError: it does not answer, or refuses what the last `up` read from the kubeconfig.
    """
    for _, document in state.requests(deployment, CLAIM):
        try:
            found = ApiCluster(document["kubeconfig"]).get(NOTE)
        except Unreachable as error:
            raise OpsError(f"{error}. What the stack has there can only be removed while it does") from None
        except KubeError as error:
            raise OpsError(
                f"the cluster refuses the credentials of the last `make up`: {error}. `make up STACK={stack.name}` reads the kubeconfig "
                "again; then take the stack down"
            ) from None
        if not found:
            print(
                "repair: the cluster has no note of this stack any more; it is not looked through for what may be left"
            )


def _cluster(deployment: state.Deployment) -> ApiCluster | None:
    """The cluster, which may just have been started; None when it does not answer."""
    kubeconfig = state.kubeconfig(deployment)
    if not kubeconfig:
        return None
    try:
        cluster = ApiCluster(kubeconfig)
        why = wait(lambda: None if cluster.get("/version") else "no version", Deadline(CLUSTER_SECONDS), pause=1)
        if why is None:
            return cluster
    except KubeError as error:
        why = str(error)
    print(f"repair: the cluster does not answer, what is unfinished there is left as it is: {why}")
    return None


def _start_machines(stack: Stack, deployment: state.Deployment) -> tuple[Repaired, dict[str, dict[str, Any]]]:
    """Start machines that stopped, and find those that are gone or reached elsewhere: what the latter would print now, by URN."""
    made = machines.made(deployment)
    found, others = machines.listed(stack, made.values())
    gone = [urn for urn, document in made.items() if document["name"] not in found]
    protection.refuse_to_replace(stack, deployment, gone)
    stopped = [document for document in made.values() if _has_to_be_started(found.get(document["name"]))]
    for document in stopped:
        print(f"repair: machine {document['name']} is {found[document['name']]['state']}; starting it")
    for urn in gone:
        print(f"repair: machine {made[urn]['name']} is gone; it will be recreated")
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda document: machines.start(stack, document), stopped))
    servers.see_that_a_majority_is_left(deployment, [made[urn]["name"] for urn in gone])
    names = [document["name"] for document in stopped]
    moved = machines.moved(deployment, {**found, **dict(zip(names, started, strict=True))})
    return Repaired(names, gone, begun=tuple(others), moved=tuple(now["name"] for now in moved.values())), moved


def _has_to_be_started(found: Mapping[str, Any] | None) -> bool:
    """One that runs and has no address yet is waited for in the same way."""
    return found is not None and (found["state"] != machines.RUNNING or found.get("address") == "")


def _follow_machines(moved: Mapping[str, Mapping[str, Any]]) -> Change:
    """Tell the state where machines are reached: it is what a refresh would do, which this provider's commands do not have."""
    for now in moved.values():
        print(f"repair: machine {now['name']} is reached at {now['address']} now; what depends on that will follow")

    def follow(deployment: dict[str, Any]) -> None:
        for resource in state.resources(deployment):
            if resource["urn"] in moved:
                text, known = json.dumps(moved[resource["urn"]]), resource["outputs"]["stdout"]
                secret = isinstance(known, dict)
                told = {state.SECRET: known[state.SECRET], "plaintext": json.dumps(text)} if secret else text
                resource["outputs"]["stdout"] = told

    return follow


def _begun(stack: Stack) -> Path:
    return stack.folder / "machines.json"


def remember(stack: Stack) -> None:
    """Note, before the first `up`, whose machines will be ours: one that is begun and cut off is in no state."""
    driver = workspace.driver_of(stack.name)
    if driver and driver != "existing":
        secret_file(_begun(stack), json.dumps({"driver": driver, "owner": f"{PROJECT}/{stack.name}"}))


def clear_up(stack: Stack, deployment: state.Deployment, repaired: Repaired) -> None:
    """Remove machines that killed runs have begun and that are not wanted any more, their nodes first; quick when there were none.

    Args:
        stack: the stack.
        deployment: its state, after an `up` that succeeded.
        repaired: what was found before it.

    Raises:
        OpsError: one could not be removed.
    """
    if not repaired.begun:
        return
    servers.remove_nodes(stack, deployment, repaired.begun)
    for machine in machines.orphans(stack, deployment):
        print(
            f"repair: removing machine {machine['name']}, which an earlier run began and which is not wanted any more"
        )
        asked = {key: machine[key] for key in ("driver", "owner", "name")}
        stack.act(DELETE, asked)


def sweep(stack: Stack) -> None:
    """Remove machines that an `up` from this state began and that never got into the state.

    Raises:
        OpsError: one could not be removed.
    """
    if not _begun(stack).exists():
        return
    owner = json.loads(_begun(stack).read_text())
    for machine in stack.act(LIST, owner):
        print(f"removing machine {machine['name']}, which an earlier run began")
        stack.act(DELETE, {**owner, "name": machine["name"]})
