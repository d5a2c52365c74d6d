"""The Debian root file system that the nspawn machines share: `python -m lab.rootfs DESTINATION`.

It is made once, is never booted itself, and holds no identity (no host key, no machine id, no user): each machine is an
overlay on it. Everything that makes a boot slow or cannot work in a container is switched off here, so a machine
answers on SSH within seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

SUITE = "bookworm"

PACKAGES = (
    # a systemd host reached over SSH and set up by cloud-init
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "sudo",
    "cloud-init",
    "python3-cffi-backend",  # python3-jsonschema's chain needs it configured before cloud-init under debootstrap
    "ca-certificates",
    "curl",
    "hostname",
    "iproute2",
    "iputils-ping",
    "netbase",
    "procps",
    # Kubernetes nodes and the Istio sidecar
    "conntrack",
    "ethtool",
    "ipset",
    "iptables",
    "kmod",
    "socat",
)

MASKED_UNITS = (
    # one Python start less each: `cloud-init.service` alone finds the seed, `cloud-final.service` runs the rest
    "cloud-init-local.service",
    "cloud-config.service",
    "cloud-init-hotplugd.socket",
    # timers that would download, or wake five machines at once
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    # hardware and consoles that a container does not have
    "console-getty.service",
    "getty.target",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    # a machine's /proc/sys is writable (the kubelet needs that): these would write the host's own settings
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
    "systemd-sysctl.service",
    # the driver has done it: machine id, host name, users
    "systemd-firstboot.service",
    "systemd-machine-id-commit.service",
    "systemd-repart.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-random-seed.service",
    "systemd-journal-flush.service",
)

_CLOUD_CFG = """\
# The whole cloud-init configuration: only what a machine of ours can be asked to do, for a quick boot.
# Host name, /etc/hosts, network and host key are made by the machine driver and are not cloud-init's to rewrite.
datasource_list: [NoCloud]
network: {config: disabled}
preserve_hostname: true
manage_etc_hosts: false
ssh_deletekeys: false
ssh_genkeytypes: []
disable_root: true
locale: false
users: []
cloud_init_modules: [bootcmd, write-files, users-groups, ssh]
cloud_config_modules: []
cloud_final_modules: [package-update-upgrade-install, write-files-deferred, runcmd, scripts-user, final-message]
system_info:
  distro: debian
  paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/}
  ssh_svcname: ssh
"""

FILES = {
    "etc/cloud/cloud.cfg": _CLOUD_CFG,
    "etc/cloud/ds-identify.cfg": "policy: enabled\n",
    "etc/ssh/sshd_config.d/10-machines.conf": "PasswordAuthentication no\nPermitRootLogin no\nUseDNS no\n",
    "etc/systemd/journald.conf.d/10-machines.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nReadKMsg=no\n",
    "etc/systemd/system.conf.d/10-machines.conf": "[Manager]\nDefaultTimeoutStopSec=4s\n",
    "etc/fstab": "",
    "etc/machine-id": "",
    "etc/resolv.conf": "",
}
"""Files that differ from the packages' own: path in the root -> text."""

_UNNEEDED = ("usr/share/man", "usr/share/locale", "usr/share/info", "var/lib/apt/lists", "var/log")

KEY = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
"""Changes with anything in this module: the name under which a built root is cached."""

Progress = Callable[[str], None]


class RootfsError(Exception):
    """The root file system cannot be made here. The message says what to do."""


def build(destination: Path, progress: Progress) -> None:
    """Make the root file system at `destination`, which does not exist until it is complete.

    Killed at any point, the next call starts again with the packages downloaded so far. Succeeds at once when
    `destination` is there. About 450 MB and, downloads apart, two minutes.

    Raises:
        RootfsError: not root, debootstrap missing, no Debian mirror configured, or debootstrap failed.
    """
    destination = destination.absolute()
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _lock(_sibling(destination, "lock")):
        if destination.exists():
            return
        if os.geteuid() != 0 or not shutil.which("debootstrap"):
            raise RootfsError("building a root file system needs root and debootstrap: apt-get install debootstrap")
        partial, debs = _sibling(destination, "partial"), _sibling(destination, "debs")
        if partial.exists():
            shutil.rmtree(partial)
        debs.mkdir(exist_ok=True)
        _debootstrap(partial, debs, mirror(), progress)
        configure(partial)
        partial.rename(destination)
        shutil.rmtree(debs)
        progress(f"root file system ready: {destination}")


def mirror() -> str:
    """The Debian mirror that this host's own apt uses.

    Raises:
        RootfsError: apt knows none (another distribution, or package lists never fetched).
    """
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"]
    try:
        listed = subprocess.run([*command, "Created-By: Packages"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RootfsError(f"cannot ask apt for its mirror: {error}") from error
    return choose_mirror(listed)


def choose_mirror(index_targets: str) -> str:
    """The first mirror of SUITE, else of any Debian suite (a mirror serves them all).

    Args:
        index_targets: lines of `origin|codename|component|uri`, see apt-get(8), indextargets.
    """
    rows = [line.split("|") for line in index_targets.splitlines() if line.count("|") == 3]
    main = [row for row in rows if row[0] == "Debian" and row[2] == "main" and row[3].startswith("http")]
    main.sort(key=lambda row: row[1] != SUITE)
    for _, codename, _, uri in main:
        if "security" not in codename and "security" not in uri:
            return uri
    raise RootfsError("apt knows no Debian mirror: run apt-get update first; on another distribution use STACK=dev")


def configure(root: Path) -> None:
    """Turn a fresh debootstrap root into one for machines: our files, masked units, no identity, no caches."""
    for name, text in FILES.items():
        path = root / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for unit in MASKED_UNITS:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    for folder in _UNNEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    for config in root.glob("etc/cloud/cloud.cfg.d/*.cfg"):
        if "logging" not in config.name:
            config.unlink()
    (root / "etc/hostname").unlink(missing_ok=True)


def _debootstrap(target: Path, debs: Path, mirror_uri: str, progress: Progress) -> None:
    # In namespaces of its own, which die with us: no process goes on in the target, nothing stays mounted there.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount-proc", "--pid", "--fork", "--kill-child"]
    command += ["debootstrap", "--variant=minbase", f"--cache-dir={debs}"]
    command += [f"--include={','.join(PACKAGES)}", SUITE, str(target), mirror_uri]
    progress(f"debootstrap {SUITE}: {len(PACKAGES)} packages and what they need")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    last: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-9:], line.rstrip()]
            if line.startswith("I: ") and "..." in line and "Retrieving" not in line and "Validating" not in line:
                progress(line[3:].strip())
    if process.returncode:
        raise RootfsError("debootstrap failed; its last lines:\n" + "\n".join(last))


def _sibling(destination: Path, suffix: str) -> Path:
    return destination.with_name(f".{destination.name}.{suffix}")


@contextmanager
def _lock(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Command line: build the root at the given path."""
    parser = argparse.ArgumentParser(prog="python -m lab.rootfs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("destination", type=Path, help="folder to make; nothing is done when it exists")
    try:
        build(parser.parse_args().destination, lambda line: print(line, file=sys.stderr, flush=True))
    except RootfsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
