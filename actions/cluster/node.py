"""Makes a machine a k3s node by the script of `k3s_files.py`."""

from __future__ import annotations

from pydantic import Field
from typing_extensions import TypedDict

from actions import ssh
from actions.protocol import Document, Failure, Progress, Ssh
from actions.ssh import Connect

CONNECT_SECONDS = 300
"""A machine may still be booting."""
_READ_TOKEN = "IFS= read -r token"  # noqa: S105 - how the script gets it, which has it neither in its text nor in its arguments
_BEGIN = "founding=yes"


class InstallRequest(Document):
    """What `begin` and `install` read.

    Attributes:
        node: its name, for people.
        machine: how to reach its machine.
        token: what nodes join with.
        script: `actions.cluster.k3s_files.node_script`.
    """

    node: str
    machine: Ssh
    token: str = Field(repr=False)
    script: str


class Installed(TypedDict):
    """What they print.

    Attributes:
        kubeconfig: of an administrator, for the machine itself; empty for an agent.
    """

    kubeconfig: str


def begin(request: InstallRequest, progress: Progress, connect: Connect = ssh.connect) -> Installed:
    """Make a machine a server that may begin a cluster; as `install` otherwise.

    Raises:
        Failure: as for `install`.
    """
    return _run(request, f"{_BEGIN}; {request.script}", progress, connect)


def install(request: InstallRequest, progress: Progress, connect: Connect = ssh.connect) -> Installed:
    """Make a machine a node, or the node what it should be; k3s is restarted only when something of it has changed.

    Raises:
        Failure: the machine cannot be reached, or the script failed on it.
    """
    return _run(request, request.script, progress, connect)


def _run(request: InstallRequest, script: str, progress: Progress, connect: Connect) -> Installed:
    try:
        with connect(**request.machine.model_dump(), timeout=CONNECT_SECONDS) as session:
            token = f"{request.token}\n".encode()
            printed = session.run(f"{_READ_TOKEN}; {script}", token, tell=progress)
    except ssh.SshError as error:
        raise Failure(f"{request.node}: {error}") from error
    return {"kubeconfig": printed.removesuffix("\n")}
