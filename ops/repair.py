"""What a killed run leaves behind, put right before the next one.

- A lock of a process that is no more.
- Operations that were under way: Pulumi does not know how they ended. Machines, nodes and members are made by commands that may be
  run again, and Kubernetes objects are upserted; only a Helm release that was being installed has to be cleared.
- Machines that are in the state but do not run, for instance after a reboot: they are started, their disks are as they were.
- Machines that are reached at another address, as Multipass's may be after each start: the state is told, so that `up` changes what
  depends on it.
- Machines that were begun and never got into the state: `down` removes them.
- Existing hosts and clusters that were being taken: `down` gives them back.
- Gateways that are reached at other addresses than Pulumi last read: it is made to read them again.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.cluster.claim import NOTE
from components.command_line import Deadline
from components.kube import ApiCluster, KubeError, Unreachable, wait
from ops import gateways, machines, protection, servers, state
from ops.errors import OpsError
from ops.files import secret_file
from ops.workspace import PROJECT, Stack

RELEASE = "kubernetes:helm.sh/v3:Release"
CLUSTER_SECONDS = 45
"""How long a cluster that may just have been started gets before its releases are left alone."""
UNINSTALL_SECONDS = 90


@dataclass(frozen=True)
class Repaired:
    """What `up` has to know of a repair.

    Attributes:
        started: names of machines that did not run.
        replace: URNs of what Pulumi has to make anew: machines that are gone, readings of gateways that have moved.
        gateways_compared: whether the gateways' addresses could be compared; not while machines and cluster are coming up.
        moved: names of machines that have other addresses; the state has them already.
    """

    started: Sequence[str] = ()
    replace: Sequence[str] = ()
    gateways_compared: bool = True
    moved: Sequence[str] = ()


def repair(stack: Stack, to_destroy: bool = False) -> Repaired:
    """Bring the stack to where `up` and `destroy` can work; quiet when there is nothing to do.

    Args:
        stack: the stack.
        to_destroy: leave alone what need not be well to be destroyed: machines, Helm releases, gateways.
    """
    _clear_dead_lock(stack)
    deployment = stack.deployment()
    pending = deployment.get("pending_operations") or []
    if pending:
        names = ", ".join(sorted({state.name(operation["resource"]["urn"]) for operation in pending}))
        print(f"repair: an earlier run was cut off while it worked on {names}")
    repaired, moved = (Repaired(), {}) if to_destroy else _start_machines(stack, deployment)
    if to_destroy:
        _check_existing_cluster(stack, deployment)
    if pending:
        if to_destroy:
            _give_back(stack, pending)
        else:
            _clear_releases(stack, deployment, pending)
        _forget_pending(stack)
    if moved:
        _follow_machines(stack, moved)
    return repaired if to_destroy else _follow_gateways(deployment, repaired)


def _clear_dead_lock(stack: Stack) -> None:
    """A local back end's lock is a file that names the process; Pulumi itself never looks whether it still lives."""
    if not stack.local_backend:
        return
    for path in stack.local_backend.glob(f".pulumi/locks/**/{stack.name}/*.json"):
        lock = json.loads(path.read_text())
        if lock.get("hostname") == socket.gethostname() and not pulumi_runs(lock["pid"]):
            print(f"repair: removing the lock of process {lock['pid']}, which is no more")
            path.unlink()
        else:
            raise OpsError(
                f"stack {stack.name} is being worked on by process {lock['pid']} of {lock.get('username')} on {lock.get('hostname')} since "
                f"{lock.get('timestamp')}. Wait for it; when you know it is dead: pulumi cancel --stack {stack.name}"
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
    for _, document in state.documents(deployment, "components.cluster", "claim"):
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


def _give_back(stack: Stack, pending: Sequence[Mapping[str, Any]]) -> None:
    """Give back hosts and clusters that were being taken: what they have of the stack is in no state."""
    undo = {
        f"python3 -m {module} {verb}": (module, word)
        for module, verb, word in (
            ("components.cluster", "claim", "release"),
            ("components.machines", "ensure", "delete"),
        )
    }
    for resource in (o["resource"] for o in pending if o["type"] == "creating"):
        inputs = state.reveal(resource.get("inputs") or {})
        if inputs.get("create") in undo:
            document = json.loads(inputs["stdin"])
            if document.get("driver") in (None, machines.EXISTING):
                print(f"repair: giving back {state.name(resource['urn'])}, which was being taken")
                stack.module(*undo[inputs["create"]], document)


def _clear_releases(stack: Stack, deployment: state.Deployment, pending: Sequence[Mapping[str, Any]]) -> None:
    """Uninstall releases that were being installed. Without an answer of the cluster they stay: the provider may mend them itself."""
    creating = [o["resource"] for o in pending if o["type"] == "creating" and o["resource"]["type"] == RELEASE]
    kubeconfig = state.kubeconfig(deployment)
    if not creating or not kubeconfig:
        return
    if why := _unreachable(kubeconfig):
        print(f"repair: the cluster does not answer, its Helm releases are left as they are: {why}")
        return
    with tempfile.TemporaryDirectory(dir=stack.folder) as folder:
        file = secret_file(Path(folder) / "kubeconfig", kubeconfig)
        for resource in creating:
            inputs = state.reveal(resource.get("inputs") or {})
            if name := inputs.get("name"):
                print(f"repair: removing the Helm release {name}, which was being installed")
                _uninstall(name, inputs.get("namespace") or "default", {**stack.env, "KUBECONFIG": str(file)})
            else:
                print(f"repair: {state.name(resource['urn'])} has a generated name and is left as it is")


def _uninstall(name: str, namespace: str, env: Mapping[str, str]) -> None:
    words = ["uninstall", name, "--namespace", namespace, "--ignore-not-found", "--wait", "--timeout", "60s"]
    try:
        ran = subprocess.run(
            ["helm", *words], env=env, text=True, capture_output=True, timeout=UNINSTALL_SECONDS, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        print(f"repair: going on, though helm could not remove {name}: {error}")
        return
    if ran.returncode:
        print(f"repair: going on, though helm could not remove {name}: {ran.stderr.strip()}")


def _unreachable(kubeconfig: str) -> str | None:
    try:
        cluster = ApiCluster(kubeconfig)
        return wait(lambda: None if cluster.get("/version") else "no version", Deadline(CLUSTER_SECONDS), pause=1)
    except KubeError as error:
        return str(error)


def _forget_pending(stack: Stack) -> None:
    """`refresh --clear-pending-creates` would read every object; the list alone is what has to go."""

    def clear(deployment: dict[str, Any]) -> None:
        deployment["pending_operations"] = []

    _edit_state(stack, clear)


def _edit_state(stack: Stack, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the stack's state. Secrets stay encrypted on the way."""
    document = json.loads(stack.pulumi("stack", "export", "--stack", stack.name))
    edit(document["deployment"])
    with tempfile.TemporaryDirectory(dir=stack.folder) as folder:
        file = secret_file(Path(folder) / "state.json", json.dumps(document))
        stack.pulumi("stack", "import", "--stack", stack.name, "--file", str(file))


def _start_machines(stack: Stack, deployment: state.Deployment) -> tuple[Repaired, dict[str, dict[str, Any]]]:
    """Start machines that stopped, and find those that are gone or reached elsewhere: what the latter would print now, by URN."""
    made = machines.made(deployment)
    found = machines.listed(stack, made.values())
    gone = [urn for urn, document in made.items() if document["name"] not in found]
    protection.refuse_to_replace(stack, deployment, gone)
    stopped = [document for document in made.values() if _has_to_be_started(found.get(document["name"]))]
    for document in stopped:
        print(f"repair: machine {document['name']} is {found[document['name']]['state']}; starting it")
    for urn in gone:
        print(f"repair: machine {made[urn]['name']} is gone; it will be made anew")
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda document: machines.start(stack, document), stopped))
    servers.see_that_a_majority_is_left(deployment, [made[urn]["name"] for urn in gone])
    names = [document["name"] for document in stopped]
    moved = machines.moved(deployment, {**found, **dict(zip(names, started, strict=True))})
    return Repaired(names, gone, moved=tuple(now["name"] for now in moved.values())), moved


def _has_to_be_started(found: Mapping[str, Any] | None) -> bool:
    """One that runs and has no address yet is waited for in the same way."""
    return found is not None and (found["state"] != machines.RUNNING or found.get("address") == "")


def _follow_machines(stack: Stack, moved: Mapping[str, Mapping[str, Any]]) -> None:
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

    _edit_state(stack, follow)


def _follow_gateways(deployment: state.Deployment, repaired: Repaired) -> Repaired:
    """Have gateways' addresses read again that are others by now.

    While machines start, what the cluster says of them is old, or of the moment: comparing then has to wait until all of it is up.
    """
    moved = None if repaired.started or repaired.moved else gateways.moved(deployment)
    return replace(repaired, replace=[*repaired.replace, *(moved or [])], gateways_compared=moved is not None)


def _begun(stack: Stack) -> Path:
    return stack.folder / "machines.json"


def remember(stack: Stack) -> None:
    """Note, before the first `up`, whose machines will be ours: one that is begun and cut off is in no state."""
    driver = (stack.settings().get("machines") or {}).get("driver")
    if driver and driver != "existing":
        secret_file(_begun(stack), json.dumps({"driver": driver, "owner": f"{PROJECT}/{stack.name}"}))


def sweep(stack: Stack) -> None:
    """Remove machines that an `up` from this state began and that never got into the state.

    Raises:
        OpsError: one could not be removed.
    """
    if not _begun(stack).exists():
        return
    owner = json.loads(_begun(stack).read_text())
    for machine in stack.module("components.machines", "list", owner):
        print(f"removing machine {machine['name']}, which an earlier run began")
        stack.module("components.machines", "delete", {**owner, "name": machine["name"]})
