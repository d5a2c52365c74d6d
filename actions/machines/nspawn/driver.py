"""The systemd-nspawn driver: the machine driver contract on records, disks, networks, names, cgroups, processes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from actions.machines.driver import MachineSpec, MachineState
from actions.machines.nspawn import cgroups, disk, layout, names, network, process, record
from actions.machines.nspawn.record import Record
from actions.protocol import Failure, Progress

_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "iptables": "iptables",
    "setpriv": "util-linux",
    "dnsmasq": "dnsmasq-base",
}
_MODULES = ("br_netfilter", "nf_conntrack", "vxlan", "xt_comment", "xt_mark", "xt_REDIRECT", "xt_MASQUERADE", "tun")


class NspawnDriver:
    """Machines as systemd-nspawn containers: Linux, root.

    `MachineSpec.image` is the path of a root file system (`python -m lab.rootfs`). A changed `cpus` or `memory_mib`
    applies to the running machine, changed `mounts` restart it; `disk_gib` is ignored, as the disk is an overlay that
    shares the host's free space.
    """

    def ensure(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Make, adopt, start or resize the machine; returns when its init runs.

        Raises:
            Failure: not root or not Linux, a tool or the image is missing, the machine is someone else's, it runs
                with other user data, image or network, or the network's range is taken.
        """
        return self._bring_up(spec, progress, as_it_is=False)

    def update(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Start or resize the machine on the disk it has; see `Driver.update`."""
        return self._bring_up(spec, progress, as_it_is=True)

    def _bring_up(self, spec: MachineSpec, progress: Progress, as_it_is: bool) -> MachineState:
        check_host()
        _check_spec(spec)
        with layout.machine_lock(spec.name):
            known = _owned(spec.name, spec.owner)
            running = process.find(layout.Paths(spec.name))
            if known and known.identity != record.identity(spec) and not as_it_is:
                _refuse_running(spec.name, running)
                progress(f"{spec.name}: not running and made from other settings: making it afresh")
                _remove_machine(spec.name)
                known = None
            if known and running and known.mounts != record.mounts_of(spec):
                progress(f"{spec.name}: other mounts: restarting it")
                process.stop(layout.Paths(spec.name), running)
                running = None
            now = _settle(spec, known)
            if running:
                cgroups.limit(now.name, now.cpus, now.memory_mib, now.index)
            else:
                now = _start(now, spec.user_data, progress)
            return _state(now, "running")

    def delete(self, name: str, owner: str, options: Mapping[str, Any], progress: Progress) -> None:
        """Stop the machine and remove everything made for it; with the last one, everything of ours on the host.

        Raises:
            Failure: not root, or the machine is someone else's.
        """
        check_host()
        with layout.machine_lock(name):
            if _owned(name, owner):
                progress(f"{name}: stopping and removing")
                _remove_machine(name)
            with layout.host_lock():
                _release_host()

    def list(self, owner: str, options: Mapping[str, Any]) -> list[MachineState]:
        """The owner's machines: `running`, `stopped`, or `without names` where one runs but its name server does not.

        Raises:
            Failure: not root.
        """
        check_host()
        served = names.served()
        return [_state(known, _condition(known, served)) for known in record.load_all() if known.owner == owner]


def leftovers() -> list[str]:
    """Everything of ours on this host, of any owner, in words: empty after the last machine is deleted."""
    folders = [layout.VAR, layout.RUN, layout.NAMES]
    mounts = [f"mount {point}" for folder in folders for point in layout.mounts_below(folder)]
    found = [f"folder {folder}" for folder in folders if folder.exists()]
    return process.leftovers() + names.leftovers() + mounts + network.leftovers() + cgroups.leftovers() + found


def _settle(spec: MachineSpec, known: Record | None) -> Record:
    """The machine's record, written, with its network and name in place; a new machine gets its address here."""
    with layout.host_lock():
        others = [other for other in record.load_all() if other.name != spec.name]
        now = record.plan(spec, _image(spec), others) if known is None else record.resize(known, spec)
        network.setup(now.lan, {other.lan for other in others})
        if now != known:
            now.save()
        names.serve(now.lan, [*others, now])
        return now


def _start(now: Record, user_data: str, progress: Progress) -> Record:
    _clear_boot(now.name)
    if not now.host_key:
        now = dataclasses.replace(now, host_key=disk.make(now, user_data))
        now.save()
    progress(f"{now.name}: booting at {now.address}")
    disk.mount(now)
    groups = cgroups.make(now.name)
    cgroups.limit(now.name, now.cpus, now.memory_mib, now.index)
    process.start(now, groups)
    return now


def _remove_machine(name: str) -> None:
    paths = layout.Paths(name)
    if running := process.find(paths):
        process.stop(paths, running)
    _clear_boot(name)
    disk.remove(name)


def _clear_boot(name: str) -> None:
    """Remove what a boot leaves behind, whether it was stopped or killed, or the host went down under it."""
    process.end_stragglers(name)
    network.remove_port(name)
    process.clear_traces(layout.Paths(name))
    disk.unmount(name)
    cgroups.remove(name)
    layout.remove_tree(layout.Paths(name).run)


def _release_host() -> None:
    left = record.load_all()
    names.prune(left)
    if left:
        network.prune({other.lan for other in left})
        return
    network.teardown()
    cgroups.remove_parent()
    layout.remove_empty(layout.VAR, layout.VAR.parent)


def _refuse_running(name: str, running: process.Process | None) -> None:
    if running:
        raise Failure(
            f"machine {name} runs with other user data, image or network, which only a new machine can take: "
            "delete it, then run this again"
        )


def _owned(name: str, owner: str) -> Record | None:
    known = record.load(name)
    if known and known.owner != owner:
        raise Failure(f"machine {name} belongs to {known.owner}, not to {owner}: choose another name")
    return known


def _condition(known: Record, served: Container[str]) -> str:
    if not process.find(layout.Paths(known.name)):
        return "stopped"
    return "running" if known.lan.bridge in served else "without names"


def _state(known: Record, state: str) -> MachineState:
    return MachineState(known.name, known.address, 22, known.user, known.host_key, state)


def check_host() -> None:
    """See that machines can run here.

    Raises:
        Failure: they cannot; the message says why and what to use instead.
    """
    instead = "or use STACK=dev (multipass)"
    if sys.platform != "linux":
        raise Failure(f"nspawn machines need Linux, this is {sys.platform}: use STACK=dev (multipass)")
    if os.geteuid() != 0:
        raise Failure(f"nspawn machines need root: run as root, {instead}")
    for tool, package in _TOOLS.items():
        if not shutil.which(tool):
            raise Failure(f"{tool} is missing: apt-get install {package}, {instead}")
    if not _has_overlayfs():
        raise Failure("this kernel has no overlayfs: use STACK=dev (multipass)")
    if not Path("/proc/sys/net/bridge").exists() and shutil.which("modprobe"):
        # machines cannot load modules; a built-in or unknown one is no error
        for module in _MODULES:
            network.succeeds(["modprobe", "--quiet", module])


def _has_overlayfs() -> bool:
    def known() -> bool:
        return "\toverlay\n" in Path("/proc/filesystems").read_text()

    return known() or (network.succeeds(["modprobe", "--quiet", "overlay"]) and known())


def _image(spec: MachineSpec) -> Path:
    """The folder itself: where the image is a link to the newest root, a machine stays on the one it was made from."""
    return Path(spec.image).expanduser().resolve()


def _check_spec(spec: MachineSpec) -> None:
    layout.check_name(spec.name)
    if not (_image(spec) / "usr/lib/systemd/systemd").exists():
        raise Failure(f"{spec.image} is no root file system: make one with python -m lab.rootfs {spec.image}")
    for mount in spec.mounts:
        if ":" in mount.source + mount.target:
            raise Failure(f"mount {mount.source}: a path with a colon cannot be mounted")
        if not Path(mount.source).is_dir() or not mount.target.startswith("/"):
            raise Failure(f"mount {mount.source}: it has to be a folder, and {mount.target} an absolute path")
    if spec.cpus < 1 or spec.memory_mib < 128:
        raise Failure(f"machine {spec.name}: needs at least 1 cpu and 128 MiB")
