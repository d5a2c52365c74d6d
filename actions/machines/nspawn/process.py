"""The process that keeps a machine running: started apart from its caller, known by process id and start time."""

from __future__ import annotations

import os
import select
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actions.machines.nspawn import cgroups, layout
from actions.machines.nspawn.cgroups import Group
from actions.machines.nspawn.record import Record
from actions.protocol import Failure

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_NSPAWN = Path("/run/systemd/nspawn")


@dataclass(frozen=True)
class Process:
    """`started` is the start time in clock ticks since boot: a process id alone is soon someone else's."""

    pid: int
    started: int


def parse_stat(text: str) -> tuple[Process, str]:
    """The process and its state letter from the text of /proc/PID/stat, see proc(5), fields 1, 3 and 22."""
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return Process(int(head.split()[0]), int(fields[19])), fields[0]


def find(paths: layout.Paths) -> Process | None:
    """The machine's process, when it is the one that was recorded and alive."""
    try:
        recorded, _ = parse_stat(paths.process.read_text())
        current, state = parse_stat(Path(f"/proc/{recorded.pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        return None
    return current if current == recorded and state not in "ZX" else None


def arguments(record: Record, root: Path, rancher: Path, devices: Sequence[str]) -> list[str]:
    """The nspawn command line.

    Args:
        record: the machine.
        root: where its overlay is mounted.
        rancher: becomes /var/lib/rancher: containerd's own overlays cannot lie on the machine's.
        devices: device nodes of the host the machine may use.
    """
    binds = [f"--bind={device}" for device in devices]
    binds.append(f"--bind={rancher}:/var/lib/rancher")
    binds += [f"--bind-ro={source}:{target}" for source, target in record.mounts]
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--settings=no",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=read-only",
        "--capability=all",
        f"--machine={record.name}",
        f"--hostname={record.name}",
        f"--directory={root}",
        f"--network-bridge={record.lan.bridge}",
        *binds,
    ]


def environment(notify: Path, *, unified: bool) -> dict[str, str]:
    """The whole environment of nspawn: nothing of the caller's, which may hold secrets.

    See docs/ENVIRONMENT.md of systemd. A machine holds every capability: a system call filter adds only failures.
    """
    variables = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "NOTIFY_SOCKET": str(notify),
        "SYSTEMD_SECCOMP": "0",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
    }
    return variables if unified else variables | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "0"}


def keeper(command: Sequence[str], groups: Sequence[Group], record_file: Path, port: str) -> list[str]:
    """A shell that runs the command in the cgroups and again when the machine asks for a reboot.

    It records itself before anything else, so that no machine runs unrecorded; the machine dies with it.

    Args:
        command: nspawn and its arguments. It ends with 133 for a reboot: started with --keep-unit it leaves that to others.
        groups: where to run.
        record_file: gets the text of the keeper's /proc/PID/stat.
        port: the host's end of the machine's link, which would be in the way of the next boot.
    """
    record, new = (shlex.quote(str(path)) for path in (record_file, f"{record_file}.new"))
    enter = [f"echo 0 >{shlex.quote(str(group.keeper / 'cgroup.procs'))}" for group in groups]
    boot: list[str] = []
    for group in groups:
        folder = shlex.quote(str(group.boot(""))) + ("$boot" if group.version == 2 else "")
        boot += [f"mkdir -p {folder}", f"echo 0 >{folder}/cgroup.procs"]
    script = f"""\
set -e
umask 022
cat /proc/$$/stat >{new}; mv {new} {record}
{"; ".join(enter)}
trap 'kill -TERM "$child" || :' TERM
boot=0
while boot=$((boot + 1)); do
    ({"; ".join(boot)}; exec setpriv --pdeathsig KILL "$@") &
    child=$!
    code=0
    # a signal ends the wait, not the child
    wait "$child" || code=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child" || code=$?; done
    [ "$code" = 133 ] || exit "$code"
    ip link delete {shlex.quote(port)} 2>/dev/null || :
done
"""
    return ["/bin/sh", "-c", script, "sh", *command]


def start(record: Record, groups: Sequence[Group]) -> None:
    """Boot the machine; returns when its init runs.

    Raises:
        Failure: nspawn ended or said nothing in time; the message holds the end of its log.
    """
    paths = layout.Paths(record.name)
    devices = [device for device in ("/dev/kmsg", "/dev/net/tun", "/dev/fuse") if Path(device).exists()]
    command = arguments(record, paths.root, paths.rancher, devices)
    variables = environment(paths.notify, unified=cgroups.unified(cgroups.hierarchies()))
    with _ready_socket(paths.notify) as ready, paths.log.open("wb") as log:
        paths.log.chmod(0o600)
        child = subprocess.Popen(
            keeper(command, groups, paths.process, f"vb-{record.name}"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=variables,
            start_new_session=True,
        )
        _await_ready(child, ready, paths.log)
        # it outlives us on purpose: keep Popen from complaining about that
        child.returncode = 0


def stop(paths: layout.Paths, process: Process) -> None:
    """Power the machine off; after five seconds end it."""
    end(process.pid, lambda: find(paths) == process)


def end(pid: int, still_it: Callable[[], bool]) -> None:
    """End a process: five seconds for an orderly end, five for the other.

    Args:
        pid: its id.
        still_it: whether the id is still that of the process meant; asked when nobody else can get it any more.

    Raises:
        Failure: it does not end.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not still_it():
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], _STOP_SECONDS)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
    raise Failure(f"process {pid} does not end: look at it with ps -fp {pid}, then retry")


def end_stragglers(name: str) -> None:
    """End what is left in the machine's cgroups. Its processes die with nspawn; this waits for them and makes sure.

    Raises:
        Failure: a process does not end.
    """
    deadline = time.monotonic() + _STOP_SECONDS
    while left := cgroups.processes(name) - {0}:
        if time.monotonic() > deadline:
            raise Failure(f"processes {sorted(left)} of {name} do not end: look at them with ps, then retry")
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def clear_traces(paths: layout.Paths) -> None:
    """Remove what nspawn, when killed, leaves of a machine in its own folder; the machine's root is still mounted."""
    name = paths.run.name
    if paths.root.exists():
        status = paths.root.stat()
        (_NSPAWN / "locks" / f"inode-{status.st_dev}:{status.st_ino}").unlink(missing_ok=True)
    layout.remove_empty(_NSPAWN / "propagate" / name)
    layout.remove_empty(_NSPAWN / "unix-export" / name)


def leftovers() -> list[str]:
    """Processes that run one of our machines."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(word.startswith(f"--directory={layout.RUN}/") for word in words):
            found.append(f"process {path.parent.name}: {words[0]}")
    return found


@contextmanager
def _ready_socket(path: Path) -> Generator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(path))
        try:
            yield ready
        finally:
            path.unlink()


def _await_ready(child: subprocess.Popen[bytes], ready: socket.socket, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    ready.settimeout(0.1)
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        try:
            if b"READY=1" in ready.recv(4096).split(b"\n"):  # sd_notify(3)
                return
        except TimeoutError:
            continue
    else:
        child.kill()
        child.wait()
    tail = " | ".join(log.read_text(errors="replace").splitlines()[-5:])
    raise Failure(f"systemd-nspawn did not start the machine: {tail or 'it said nothing'}; see {log}")
