"""Nodes of the cluster, through whichever of its servers answers.

With several servers any of them may be gone, the one that a node was brought in through included.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import TypedDict

from actions import ssh
from actions.cluster.k3s_files import READY_SECONDS, leave_script, member_script, register_script, renumber_script
from actions.protocol import Deadline, Document, Failure, Nothing, Progress, Ssh
from actions.ssh import Connect

CONNECT_SECONDS = 5
SCRIPT_SECONDS = 60
ANSWERS = "kubectl get --raw /readyz >/dev/null"


class Server(Document):
    """A server: its node's name, and how to reach its machine."""

    name: str
    ssh: Ssh


class NodeRequest(Document):
    """A node, the address of its machine, how to reach that, and the servers to go through; an earlier version did not write all of it."""

    node: str
    address: str = ""
    servers: tuple[Server, ...]
    machine: Ssh | None = None


class Node(TypedDict):
    """What `member` and `renumber` print: the node's name."""

    node: str


class RenumberRequest(Document):
    """A node that was given another range for its pods, how to reach its machine, and the addresses that pods have of the range before."""

    node: str
    machine: Ssh
    pod_range: str
    former: tuple[str, ...]


def member(request: NodeRequest, progress: Progress, connect: Connect = ssh.connect) -> Node:
    """Wait until the node is Ready, and known at its machine's address; one that was deleted while its machine runs registers again.

    Raises:
        Failure: it is not in time, or no server answers.
    """
    # A server's own API answers by now; the others may be coming up.
    own_first = sorted(request.servers, key=lambda server: server.name != request.node)
    seconds, deadline = READY_SECONDS + SCRIPT_SECONDS, Deadline(READY_SECONDS)
    if _through(own_first, member_script(request.node, request.address), seconds, deadline, connect):
        _register(request, progress, connect)
        patiently = member_script(request.node, request.address, patient=True)
        if _through(own_first, patiently, seconds, Deadline(READY_SECONDS), connect):
            raise Failure(f"{request.node} does not register with the cluster; see journalctl -u k3s on it")
    progress(f"{request.node} is Ready")
    return {"node": request.node}


def leave(request: NodeRequest, progress: Progress, connect: Connect = ssh.connect) -> Nothing:
    """Take the node out of the cluster, and a server's etcd member with it.

    Raises:
        Failure: it is the last server that is Ready, or no other server answers.
    """
    others = [server for server in request.servers if server.name != request.node]
    is_server = len(others) < len(request.servers)
    script = leave_script(request.node, [server.name for server in others] if is_server else [])
    # One at a time: side by side each would see the others and none would be the last.
    with _alone():
        _through(others or request.servers, script, SCRIPT_SECONDS, Deadline(SCRIPT_SECONDS), connect)
    progress(f"{request.node} has left the cluster")
    return {}


def renumber(request: RenumberRequest, progress: Progress, connect: Connect = ssh.connect) -> Node:
    """Start pods of a node anew that have addresses of a range that it had before.

    Raises:
        Failure: its machine cannot be used, or the node's network does not have the new range in time.
    """
    progress(f"{len(request.former)} pods start anew, with addresses of {request.pod_range}")
    try:
        with connect(**request.machine.model_dump(), timeout=SCRIPT_SECONDS) as session:
            session.run(renumber_script(request.pod_range, request.former), timeout=READY_SECONDS)
    except ssh.SshError as error:
        raise Failure(f"{error}; restart the machine of {request.node}") from error
    return {"node": request.node}


def _register(request: NodeRequest, progress: Progress, connect: Connect) -> None:
    """A kubelet registers its node when it starts, and never again: someone has deleted the node since."""
    if not request.machine:
        return
    fellows = [server.ssh.host for server in request.servers if server.name != request.node]
    is_server = len(fellows) < len(request.servers)
    try:
        with connect(**request.machine.model_dump(), timeout=SCRIPT_SECONDS) as session:
            said = session.run(register_script(fellows if is_server else []), timeout=SCRIPT_SECONDS).strip()
    except ssh.SshError as error:
        raise Failure(f"{request.node} is not in the cluster, and its machine cannot be used: {error}") from error
    progress(f"{request.node} is not in the cluster: {said or 'its k3s is still starting'}")


def _through(servers: Sequence[Server], script: str, seconds: float, deadline: Deadline, connect: Connect) -> str:
    """Run the script on the first server whose API answers; what it printed."""
    while True:
        problems: list[str] = []
        for server in servers:
            try:
                with connect(**server.ssh.model_dump(), timeout=CONNECT_SECONDS) as session:
                    session.run(ANSWERS, timeout=CONNECT_SECONDS)
                    try:
                        return session.run(script, timeout=seconds)
                    except ssh.CommandError as error:
                        raise Failure(f"{server.name}: {error}") from error
            except ssh.SshError as error:
                problems.append(f"{server.name}: {error}")
        if deadline.passed:
            raise Failure("no server of the cluster answers:\n" + "\n".join(problems))
        time.sleep(1)


@contextmanager
def _alone() -> Generator[None]:
    """Nobody else of this user on this machine takes a node out meanwhile."""
    path = Path(tempfile.gettempdir()) / f"istio-vms-leave-{os.getuid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
