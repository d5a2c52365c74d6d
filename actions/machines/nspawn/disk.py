"""A machine's disk: an overlay on the shared root file system, with the files that make it this machine.

All of them are written once, before the first boot, and are the machine's own from then on: a line that someone adds to
its /etc/hosts survives reboots.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from actions.machines.nspawn import layout
from actions.machines.nspawn.record import Record
from actions.protocol import Failure

PREPARE_UNIT = "machine-prepare.service"


@dataclass(frozen=True)
class File:
    """A file of the machine: `path` without the leading slash."""

    path: str
    text: str
    mode: int = 0o644


def render(record: Record, user_data: str, host_key: str, host_public_key: str) -> list[File]:
    """Everything that differs from the shared root."""
    seed = "var/lib/cloud/seed/nocloud-net"
    meta_data = {"instance-id": f"{record.name}-{record.identity}", "local-hostname": record.name}
    machine_id = hashlib.sha256(f"{record.owner}/{record.name}".encode()).hexdigest()[:32]
    return [
        File("etc/hostname", f"{record.name}\n"),
        # without its own name here, sudo waits 20 s for DNS once the sidecar captures it
        File("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {record.name}\n::1 localhost ip6-localhost ip6-loopback\n"),
        File("etc/machine-id", f"{machine_id}\n"),
        # see names.py
        File("etc/resolv.conf", f"nameserver {record.lan.gateway}\n"),
        File("etc/ssh/ssh_host_ed25519_key", host_key, 0o600),
        File("etc/ssh/ssh_host_ed25519_key.pub", f"{host_public_key}\n"),
        File(f"{seed}/meta-data", json.dumps(meta_data) + "\n"),
        File(f"{seed}/user-data", user_data, 0o600),
        File(f"etc/systemd/system/{PREPARE_UNIT}", render_prepare_unit(record)),
    ]


def render_prepare_unit(record: Record) -> str:
    """The unit that runs first in the machine.

    systemd-networkd would wait for udev, which sees a writable /sys; nspawn mounts version 1 controllers read-only (and
    answers a plain remount with "busy"); the kubelet wants mounts shared.
    """
    interface = f"{record.address}/{record.lan.network.prefixlen}"
    # derived from the address: the next machine to get it is found at once, whatever is cached about the last one
    mac = ":".join(["02", "00", *(f"{byte:02x}" for byte in IPv4Address(record.address).packed)])
    remount = '[ "$$kind" != cgroup ] || mount -o remount,bind,rw "$$path"'
    return f"""\
[Unit]
Description=Network and mounts of this machine
DefaultDependencies=no
Before=cloud-init.service network-pre.target sysinit.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/mount --make-rshared /
ExecStart=/bin/sh -ec 'while read -r _ path kind _; do {remount}; done </proc/self/mounts'
ExecStart=/usr/sbin/ip address replace {interface} broadcast + dev host0
ExecStart=/usr/sbin/ip link set host0 address {mac} up
ExecStart=/usr/sbin/ip route replace default via {record.lan.gateway}

[Install]
WantedBy=sysinit.target
"""


def make(record: Record, user_data: str) -> str:
    """Make the disk afresh; the answer is the public host key, known before the machine has booted."""
    # imported here: an `ensure` of a running machine answers in a fraction of the time this takes
    from actions.machines.keys import make_pair

    paths = layout.Paths(record.name)
    for folder in (paths.upper, paths.work, paths.rancher):
        layout.remove_tree(folder)
        folder.mkdir()
        folder.chmod(0o755)
    private, public = make_pair()
    for file in render(record, user_data, private, public):
        _write(paths.upper, file)
    wants = paths.upper / "etc/systemd/system/sysinit.target.wants" / PREPARE_UNIT
    _make_folder(paths.upper, wants.parent)
    wants.symlink_to(f"../{PREPARE_UNIT}")
    return public


def mount(record: Record) -> None:
    """Mount the overlay.

    Raises:
        Failure: the root file system that the machine was made from is gone, or the kernel refuses.
    """
    paths = layout.Paths(record.name)
    folders = {"lowerdir": record.image, "upperdir": str(paths.upper), "workdir": str(paths.work)}
    if not Path(record.image, "usr").is_dir():
        raise Failure(f"{record.image}, which {record.name} was made from, is gone: delete the machine")
    if any(character in record.image for character in ":,\\"):
        raise Failure(f"image {record.image}: an overlay's path cannot hold a colon, comma or backslash; move it")
    paths.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    options = ",".join(f"{key}={value}" for key, value in folders.items())
    layout.run(["mount", "-t", "overlay", f"istio-vms-{record.name}", "-o", options, str(paths.root)])


def unmount(name: str) -> None:
    """Unmount whatever is mounted for this machine, innermost first."""
    for point in reversed(layout.mounts_below(layout.Paths(name).run)):
        layout.run(["umount", point])


def remove(name: str) -> None:
    """Remove the disk; the record goes last, so that a killed removal is found again."""
    paths = layout.Paths(name)
    for folder in (paths.upper, paths.work, paths.rancher):
        layout.remove_tree(folder)
    paths.record.unlink(missing_ok=True)
    layout.remove_tree(paths.var)


def _write(root: Path, file: File) -> None:
    path = root / file.path
    _make_folder(root, path.parent)
    layout.write_atomically(path, file.text, file.mode)


def _make_folder(root: Path, folder: Path) -> None:
    # a folder of the overlay hides the attributes of the one below: set them whatever the umask is
    for part in reversed([folder, *folder.relative_to(root).parents]):
        path = root / part
        if not path.exists():
            path.mkdir()
            path.chmod(0o755)
