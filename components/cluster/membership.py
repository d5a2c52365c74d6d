"""Nodes of the cluster, through whichever of its servers answers.

With several servers any of them may be gone, the one that a node was brought in through included.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from components import ssh
from components.cluster.k3s_files import READY_SECONDS, leave_script, member_script
from components.command_line import Deadline, Document, Failure, Progress, Ssh

CONNECT_SECONDS = 5
SCRIPT_SECONDS = 60
ANSWERS = "kubectl get --raw /readyz >/dev/null"
Connect = Callable[..., AbstractContextManager[ssh.Session]]


class Server(Document):
    """A server: its node's name, and how to reach its machine."""

    name: str
    ssh: Ssh


class NodeRequest(Document):
    """A node, and the servers to go through."""

    node: str
    servers: tuple[Server, ...]


def member(request: NodeRequest, progress: Progress, connect: Connect = ssh.connect) -> dict[str, str]:
    """Wait until the node is Ready.

    Raises:
        Failure: it is not in time, or no server answers.
    """
    # A server's own API answers by now; the others may be coming up.
    own_first = sorted(request.servers, key=lambda server: server.name != request.node)
    _through(own_first, member_script(request.node), READY_SECONDS + SCRIPT_SECONDS, Deadline(READY_SECONDS), connect)
    progress(f"{request.node} is Ready")
    return {"node": request.node}


def leave(request: NodeRequest, progress: Progress, connect: Connect = ssh.connect) -> dict[str, str]:
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


def _through(servers: Sequence[Server], script: str, seconds: float, deadline: Deadline, connect: Connect) -> None:
    """Run the script on the first server whose API answers."""
    while True:
        problems: list[str] = []
        for server in servers:
            try:
                with connect(**server.ssh.model_dump(), timeout=CONNECT_SECONDS) as session:
                    session.run(ANSWERS, timeout=CONNECT_SECONDS)
                    try:
                        session.run(script, timeout=seconds)
                    except ssh.CommandError as error:
                        raise Failure(f"{server.name}: {error}") from error
                    return
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
