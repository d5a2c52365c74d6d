"""What the lab asks of the machine it runs on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "gcc": "gcc",
    "pkg-config": "pkg-config",
    "dnsmasq": "dnsmasq-base",
    "dpkg-deb": "dpkg",
    "ip": "iproute2",
    "iptables": "iptables",
    "ssh": "openssh-client",
    "unshare": "util-linux",
}
"""Program -> Debian package it comes from."""

HEADERS = {"stdlib.h": "libc6-dev", "seccomp.h": "libseccomp-dev"}
"""C header that a build includes -> Debian package."""

LIBRARIES = {"libseccomp.a": "libseccomp-dev", "libc.a": "libc6-dev"}
"""Static library that a build links -> Debian package."""

MINIMUM_FREE_GIB = 15
"""Go's module and build caches take 7, the tools 2, machines the rest."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what is looked at.
        good: whether it is as the lab needs it.
        detail: what was seen; what to do, when it is not good.
    """

    name: str
    good: bool
    detail: str


def checks() -> list[Check]:
    """Look at everything; nothing is changed, and what is tried is tried in a network namespace of its own."""
    return [_system(), _user(), _disk(), *_packages(), *(_kernel(name, probe) for name, probe in _KERNEL)]


def _system() -> Check:
    seen = f"{platform.system()} {platform.machine()}"
    return Check("system", seen == "Linux x86_64", f"{seen}; the lab needs Linux x86_64, elsewhere use STACK=dev")


def _user() -> Check:
    root = os.geteuid() == 0
    return Check("user", root, "root" if root else "not root: machines, bridges and debootstrap need root")


def _disk() -> Check:
    free = shutil.disk_usage(Path.home()).free / 2**30
    return Check("disk", free >= MINIMUM_FREE_GIB, f"{free:.0f} GiB free, {MINIMUM_FREE_GIB} needed for a first run")


def _packages() -> list[Check]:
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    missing |= {package for header, package in HEADERS.items() if not _compiles(header)}
    missing |= {package for library, package in LIBRARIES.items() if not _links(library)}
    if missing:
        return [Check("packages", False, f"missing: apt-get install {' '.join(sorted(missing))}")]
    return [Check("packages", True, "all there")]


def _compiles(header: str) -> bool:
    return _succeeds(["gcc", "-E", "-x", "c", "-include", header, os.devnull])


def _links(library: str) -> bool:
    try:
        said = subprocess.run(["gcc", f"-print-file-name={library}"], capture_output=True, text=True).stdout.strip()
    except OSError:
        return False
    return Path(said).is_absolute()  # gcc echoes the bare name of what it does not find


def _kernel(name: str, probe: Callable[[], bool]) -> Check:
    good = probe()
    return Check(f"kernel: {name}", good, "works" if good else "not available: load the module, or use another kernel")


def _overlay() -> bool:
    known = Path("/proc/filesystems")
    return (known.exists() and "\toverlay\n" in known.read_text()) or _succeeds(["modprobe", "overlay"])


def _link_type(kind: str, *arguments: str) -> Callable[[], bool]:
    return lambda: _in_namespace("ip", "link", "add", "probe0", "type", kind, *arguments)


def _iptables() -> bool:
    return any(_in_namespace(f"iptables-{variant}", "-t", "nat", "-S") for variant in ("nft", "legacy"))


def _in_namespace(*command: str) -> bool:
    return _succeeds(["unshare", "--net", *command])


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


_KERNEL: Sequence[tuple[str, Callable[[], bool]]] = (
    ("overlay", _overlay),
    ("bridge", _link_type("bridge")),
    ("veth", _link_type("veth", "peer", "name", "probe1")),
    ("vxlan", _link_type("vxlan", "id", "1", "dstport", "8472")),
    ("iptables nat", _iptables),
)
