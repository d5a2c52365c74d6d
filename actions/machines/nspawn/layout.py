"""Where everything of ours lives on the host, and the locks around it.

`VAR` is what survives a host reboot, `RUN` what belongs to one boot, `NAMES` what of that is open to the user dnsmasq
runs as. All are gone after the last machine.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from actions.protocol import Failure

VAR = Path("/var/lib/istio-vms/nspawn")
RUN = Path("/run/istio-vms")
LOCKS = RUN / ".locks"
NAMES = Path("/run/istio-vms-names")

_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_name(name: str) -> str:
    """The name, when it can be a host name (RFC 1123 label, lower case) and so is a safe path element.

    Raises:
        Failure: it cannot.
    """
    if not _HOSTNAME.fullmatch(name):
        raise Failure(f"{name!r} is no host name: use 1-63 lower-case letters, digits and inner hyphens")
    return name


class Paths:
    """The files of one machine."""

    def __init__(self, name: str) -> None:
        """Raises `Failure` when the name is no host name."""
        check_name(name)
        self.var = VAR / name
        self.record = self.var / "spec.json"
        self.upper = self.var / "upper"
        self.work = self.var / "work"
        self.rancher = self.var / "rancher"
        self.run = RUN / name
        self.root = self.run / "root"
        self.log = self.run / "console.log"
        self.process = self.run / "process"
        self.notify = self.run / "notify"


@contextmanager
def machine_lock(name: str) -> Generator[None]:
    """Held for the whole of `ensure` and `delete` of one machine."""
    with _lock(LOCKS / check_name(name)):
        yield


@contextmanager
def host_lock() -> Generator[None]:
    """Held briefly, inside a machine lock, around what machines share: addresses, bridges, firewall, names, sysctls."""
    with _lock(LOCKS / ".host"):
        yield


@contextmanager
def _lock(path: Path) -> Generator[None]:
    # The file is unlinked on release, so a lock won on a file that is no longer there counts for nothing: try again.
    while True:
        try:
            # closed to others: an overlay mounted below holds whatever root of a machine puts there
            for folder in (RUN, LOCKS):
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                break
        except FileNotFoundError:
            pass
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        remove_empty(LOCKS, RUN)
        os.close(descriptor)


def remove_empty(*folders: Path) -> None:
    """Remove the folders that are there and empty, in this order."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours, never anything mounted in it.

    Raises:
        Failure: something is still mounted below.
    """
    if below := mounts_below(folder):
        raise Failure(f"{below[-1]} is still mounted: umount it, then run the same command again")
    if folder.exists():
        shutil.rmtree(folder)


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, outermost first. Field 5 of /proc/self/mountinfo, see proc(5)."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(point for point in points if point == str(folder) or point.startswith(f"{folder}/"))


def run(command: Sequence[str], *, stdin: str = "") -> str:
    """The output of a host command.

    Raises:
        Failure: it failed; the message holds its last words.
    """
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step, so that a killed process leaves the old or the new one; `mode` is not masked."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    temporary.rename(path)
