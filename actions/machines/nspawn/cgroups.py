"""A cgroup per machine, in every hierarchy the host has (version 1, 2 or both).

nspawn is started inside it, so that the machine's cgroup namespace has a root of its own: two kubelets below one root
delete each other's pods. Limits apply live.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from actions.protocol import Failure

PARENT = "istio-vms"
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup hierarchy. `controllers` is empty for version 2 and for named version 1 hierarchies."""

    mount: Path
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True)
class Group:
    """The cgroup of one machine in one hierarchy.

    In version 2 only leaves hold processes, and nspawn makes two below the one it starts in: so each boot starts in a
    new one, beside the one of the keeper. In version 1 all start in the group itself.
    """

    path: Path
    version: int

    @property
    def keeper(self) -> Path:
        """Where the process that restarts the machine lives."""
        return self.path / "keeper" if self.version == 2 else self.path

    def boot(self, number: str) -> Path:
        """Where boot `number` of the machine starts."""
        return self.path / f"boot-{number}" if self.version == 2 else self.path


def parse(mountinfo: str) -> list[Hierarchy]:
    """The hierarchies below /sys/fs/cgroup in the text of /proc/self/mountinfo, see proc(5)."""
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount, (kind, _, options) = left.split()[4], right.split(" ", 2)
        if kind == "cgroup2" and mount.startswith("/sys/fs/cgroup"):
            found[mount] = Hierarchy(Path(mount), 2, frozenset())
        elif kind == "cgroup" and mount.startswith("/sys/fs/cgroup"):
            found[mount] = Hierarchy(Path(mount), 1, frozenset(options.split(",")) - {"rw", "ro"})
    return list(found.values())


def hierarchies() -> list[Hierarchy]:
    """The host's.

    Raises:
        Failure: there are none.
    """
    found = parse(Path("/proc/self/mountinfo").read_text())
    if not found:
        raise Failure("no cgroups are mounted under /sys/fs/cgroup: use STACK=dev (multipass)")
    return found


def unified(found: list[Hierarchy]) -> bool:
    """Whether the controllers are in version 2."""
    return all(hierarchy.version == 2 for hierarchy in found)


def make(name: str) -> list[Group]:
    """Make the machine's cgroup in every hierarchy."""
    found = hierarchies()
    groups = [Group(hierarchy.mount / PARENT / name, hierarchy.version) for hierarchy in found]
    for hierarchy, group in zip(found, groups, strict=True):
        group.path.mkdir(parents=True, exist_ok=True)
        if "cpuset" in hierarchy.controllers:
            for path in (group.path.parent, group.path):
                _inherit_cpuset(path)
        if group.version == 2:
            if unified(found):
                for path in (hierarchy.mount, group.path.parent, group.path):
                    _delegate(path)
            group.keeper.mkdir(exist_ok=True)
    return groups


def limit(name: str, cpus: int, memory_mib: int, index: int) -> None:
    """Apply sizes, at once and to a running machine too.

    Version 2 has a quota on time. Version 1 refuses a pod whose own limit is above its machine's quota, which no real
    machine does, so there the machine gets `cpus` of the host's processors, the `index` spreading machines over them.

    Raises:
        Failure: more memory is in use than the new limit.
    """
    found = hierarchies()
    for hierarchy in found:
        group = hierarchy.mount / PARENT / name
        if "memory" in hierarchy.controllers:
            _write_limit(group / "memory.limit_in_bytes", memory_mib * 1024 * 1024)
        if "cpuset" in hierarchy.controllers:
            host = parse_cpus((hierarchy.mount / PARENT / "cpuset.cpus").read_text())
            _set_cpus(group, choose_cpus(host, cpus, index))
        if unified(found):
            _write_limit(group / "memory.max", memory_mib * 1024 * 1024)
            (group / "cpu.max").write_text(f"{cpus * 100_000} 100000")


def choose_cpus(host: list[int], cpus: int, index: int) -> list[int]:
    """`cpus` of the host's processors, starting at a place that moves with `index`."""
    if cpus >= len(host):
        return sorted(host)
    return sorted(host[(index * cpus + i) % len(host)] for i in range(cpus))


def parse_cpus(text: str) -> list[int]:
    """The processors of a kernel list such as `0-3,6`, see cpuset(7)."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def remove(name: str) -> None:
    """Remove the machine's cgroups and what its init and kubelet made in them; its processes have ended."""
    for hierarchy in hierarchies():
        _remove(hierarchy.mount / PARENT / name)


def remove_parent() -> None:
    """Remove the folder of all machines' cgroups, after the last machine."""
    for hierarchy in hierarchies():
        _remove(hierarchy.mount / PARENT)


def leftovers() -> list[str]:
    """Cgroups of ours that are there."""
    groups = [hierarchy.mount / PARENT for hierarchy in hierarchies()]
    return [f"cgroup {folder}" for group in groups if group.exists() for folder in (group, *group.glob("*/"))]


def processes(name: str) -> set[int]:
    """The ids of every process of the machine."""
    ids: set[int] = set()
    for hierarchy in hierarchies():
        # Of a machine that is ending, groups go while they are walked: `os.walk`, unlike `rglob`, goes on.
        for folder, _, _ in os.walk(hierarchy.mount / PARENT / name):
            with contextlib.suppress(OSError):
                ids |= {int(line) for line in Path(folder, "cgroup.procs").read_text().split()}
    return ids


def _remove(group: Path) -> None:
    deadline = time.monotonic() + 5
    while group.exists():
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()
        except OSError as error:  # a process may take a moment to leave
            if time.monotonic() > deadline:
                raise Failure(f"cgroup {group} stays: {error}; end its processes, then retry") from error
            time.sleep(0.05)


def _inherit_cpuset(group: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (group / name).read_text().strip():
            (group / name).write_text((group.parent / name).read_text())


def _set_cpus(group: Path, cpus: list[int]) -> None:
    # Version 1 wants every child within its parent at every moment: widen downwards, then narrow upwards.
    if set(parse_cpus((group / "cpuset.cpus").read_text())) == set(cpus):
        return
    files = [Path(folder) / "cpuset.cpus" for folder, _, _ in os.walk(group)]
    wanted = ",".join(map(str, cpus))
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # a container that has ended meanwhile
            file.write_text(f"{file.read_text().strip()},{wanted}".strip(","))
    for file in reversed(files):
        with contextlib.suppress(FileNotFoundError):
            file.write_text(wanted)


def _delegate(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in _V2_CONTROLLERS if name in available)
    (group / "cgroup.subtree_control").write_text(wanted)


def _write_limit(file: Path, value: int) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        size = f"{value >> 20} MiB"
        raise Failure(f"cannot limit memory to {size} ({error.strerror}): the machine uses more") from error
