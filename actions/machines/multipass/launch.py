"""`multipass launch`, running beside us: it ends only when cloud-init has."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from typing import IO, cast

from actions.machines.driver import MachineSpec
from actions.machines.multipass.cli import answered, not_installed
from actions.machines.multipass.options import Options
from actions.machines.multipass.ownership import with_owner


class Launch:
    """One `multipass launch`."""

    def __init__(self, spec: MachineSpec, options: Options) -> None:
        """Begin it.

        Raises:
            Failure: there is no `multipass`, or it cannot take this user-data.
        """
        command = ["multipass", "launch", "--name", spec.name, "--cpus", str(spec.cpus)]
        command += ["--memory", f"{spec.memory_mib}M", "--disk", f"{spec.disk_gib}G", "--cloud-init", "-"]
        command += ["--timeout", str(max(1, round(options.timeout_seconds)))]
        command += [word for network in options.networks for word in ("--network", network)]
        command += [spec.image] if spec.image else []
        self._command = command
        self._stderr = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115 - it lives as long as the process
        user_data = with_owner(spec.user_data, spec.owner)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._stderr
            )
        except FileNotFoundError:
            raise not_installed() from None
        stdin = cast("IO[bytes]", self._process.stdin)
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(user_data.encode())

    def ended(self) -> subprocess.CompletedProcess[str] | None:
        """How it ended, or None while it runs.

        Raises:
            Failure: there is no daemon.
        """
        code = self._process.poll()
        if code is None:
            return None
        self._stderr.seek(0)
        ran = subprocess.CompletedProcess(self._command, code, "", self._stderr.read().decode(errors="replace"))
        return answered(ran)

    def leave(self) -> None:
        """Stop waiting for it; what it has begun goes on in the daemon."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._stderr.close()
