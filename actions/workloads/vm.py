"""The virtual machine's side of joining: sends `on_vm.py` over one SSH session and asks it to act."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Self

from actions import ssh
from actions.protocol import Failure, Ssh
from actions.ssh import Connect
from actions.workloads.files import member_paths

CONNECT_SECONDS = 10
ACTION_SECONDS = 120

_PROGRAM = ssh.python_script(Path(__file__).with_name("on_vm.py"))


def _request(action: str, **fields: Any) -> bytes:
    return json.dumps({"action": action, "root": "/", **fields}).encode()


_LEAVING: dict[str, Any] = {"action": "remove", "paths": list(member_paths()), "set_owners": True}
LEAVE = (_PROGRAM, _request(**_LEAVING))
"""What takes a machine out of the mesh, whatever of it there is: a script to be run as root, and its stdin."""


class VmError(Failure):
    """The machine cannot be reached, is not the one it should be, or cannot do what was asked."""


class VmUnreachable(VmError):
    """The machine does not answer, or not any more, which may pass."""


class VmLost(VmUnreachable):
    """The connection was lost while the machine worked; whether that has come to its end is not known."""


class Vm:
    """A machine to ask things of. It is connected to at the first question, and again at the next one after a connection was lost."""

    def __init__(self, target: Ssh, connect: Connect = ssh.connect) -> None:
        """`connect` is `actions.ssh.connect`, or a stand-in for it."""
        self._target = target
        self._connect = connect
        self._open = ExitStack()
        self._session: ssh.Session | None = None

    def __enter__(self) -> Self:
        """Connects to nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the session."""
        self._open.close()

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        """Have `on_vm.py` do something as root; once more when the connection is lost over it, as every action may be repeated.

        That happens when the sidecar's start is quicker than our answer: netfilter, which has not followed the connection before, takes the
        answer for the first packet of one that the machine opens, and the sidecar's new rules redirect it to Envoy.

        Raises:
            VmError: it could not; after `VmUnreachable` asking again connects anew.
        """
        question = (_PROGRAM, _request(action, **fields), ACTION_SECONDS + fields.get("seconds", 0))
        try:
            return json.loads(self.run(*question))
        except VmLost:
            return json.loads(self.run(*question))

    def leave(self) -> bool:
        """Have the machine leave the mesh; whether its sidecar ran.

        Raises:
            VmError: as for `ask`.
        """
        return self.ask(**_LEAVING)["stopped"]

    def run(self, script: str, stdin: bytes | None = None, timeout: float = ACTION_SECONDS) -> str:
        """Run a bash script as root; what it printed.

        Raises:
            VmError: as for `ask`.
        """
        session = None
        try:
            session = self._session = self._session or self._open.enter_context(self._connection())
            return session.run(script, stdin, timeout)
        except (ssh.CommandError, ssh.HostKeyError) as error:
            raise VmError(f"{self._target.host}: {error}") from None
        except ssh.SshError as error:
            self._session = None
            raise (VmLost if session else VmUnreachable)(f"{self._target.host}: {error}") from None

    def _connection(self) -> AbstractContextManager[ssh.Session]:
        target = self._target
        return self._connect(
            target.host, target.port, target.user, target.private_key, target.host_key, CONNECT_SECONDS
        )
