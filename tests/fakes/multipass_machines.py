"""What the instances of the fake `multipass` are: folders, or machines that boot.

A folder is quick and needs nothing. Commands of `exec` run on this machine, with absolute paths among their arguments looked up in the
folder: honest for programs that are given files, such as `cat`, and for no others.

With `MULTIPASS_FAKE_MACHINES` in the environment (see `Booted`) an instance is a machine of driver nspawn: what happens in it happens.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

SSH_USER = "ubuntu"
"""As whom Multipass goes into an instance; cloud-init makes the user there."""


class Machines(Protocol):
    """The instances behind what the fake's daemon remembers of them."""

    def make(self, name: str, instance: dict[str, Any], user_data: Mapping[str, Any] | None) -> None:
        """Make it and boot it for the first time; without `user_data` cloud-init does nothing. May set its `ipv4`."""
        ...

    def start(self, name: str, instance: dict[str, Any], address: str) -> None:
        """Boot it, at that address if one is given."""
        ...

    def stop(self, name: str) -> None:
        """Power it off."""
        ...

    def remove(self, name: str) -> None:
        """Remove it and its disk."""
        ...

    def lets_in(self, name: str) -> bool:
        """Whether sshd would."""
        ...

    def run(self, name: str, command: list[str]) -> int:
        """Run a command in it; its exit code."""
        ...

    def mount(self, name: str, source: str, target: str) -> None:
        """Show it a folder."""
        ...

    def unmount(self, name: str, target: str) -> None:
        """Take it away again."""
        ...


class Folders:
    """A folder each."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def root(self, name: str) -> Path:
        return self._home / "instances" / name

    def make(self, name: str, instance: dict[str, Any], user_data: Mapping[str, Any] | None) -> None:
        place = self.root(name)
        (place / "etc/ssh").mkdir(parents=True)
        blob = b"\0\0\0\x0bssh-ed25519\0\0\0 " + secrets.token_bytes(32)
        key = f"ssh-ed25519 {base64.b64encode(blob).decode()} root@{name}\n"
        (place / "etc/ssh/ssh_host_ed25519_key.pub").write_text(key)
        (place / "etc/hosts").write_text("127.0.0.1 localhost\n")
        for file in (user_data or {}).get("write_files", []):
            target = place / file["path"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.get("content", ""))

    def start(self, name: str, instance: dict[str, Any], address: str) -> None:
        instance["ipv4"] = address or instance["ipv4"]

    def stop(self, name: str) -> None:
        pass

    def remove(self, name: str) -> None:
        shutil.rmtree(self.root(name))

    def lets_in(self, name: str) -> bool:
        return True

    def run(self, name: str, command: list[str]) -> int:
        inside = [str(self.root(name)) + word if word.startswith("/") else word for word in command]
        return subprocess.run(inside).returncode

    def mount(self, name: str, source: str, target: str) -> None:
        pass

    def unmount(self, name: str, target: str) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Booted:
    """A machine of driver nspawn each: Linux and root.

    Attributes:
        image: the root file system that all of them boot, whatever `launch` asks for.
        cidr: their network, which nobody else on this machine uses.
        shared: the folder that `mount` may show them, or folders in it. They have it from the start, elsewhere, as nspawn mounts before
            it boots only.
    """

    image: str
    cidr: str
    shared: str

    _AT = "/media/shared"

    @classmethod
    def parse(cls, text: str) -> Booted:
        sys.path.append(str(Path(__file__).parents[2]))
        return cls(**json.loads(text))

    @property
    def owner(self) -> str:
        return f"multipass/{hashlib.sha256(self.cidr.encode()).hexdigest()[:8]}"

    def make(self, name: str, instance: dict[str, Any], user_data: Mapping[str, Any] | None) -> None:
        self._boot(name, instance, dict(user_data or {}))

    def start(self, name: str, instance: dict[str, Any], address: str) -> None:
        from actions.machines.nspawn import disk, layout, record

        known = record.load(name)
        if address and known:
            moved = dataclasses.replace(known, address=address)
            moved.save()
            unit = layout.Paths(name).upper / "etc/systemd/system" / disk.PREPARE_UNIT
            unit.write_text(disk.render_prepare_unit(moved))
        self._boot(name, instance, {})
        for target, source in instance["mounts"].items():
            self.mount(name, source, target)

    def stop(self, name: str) -> None:
        from actions.machines.nspawn import layout, process

        if running := process.find(layout.Paths(name)):
            process.stop(layout.Paths(name), running)

    def remove(self, name: str) -> None:
        from actions.machines.nspawn.driver import NspawnDriver

        NspawnDriver().delete(name, self.owner, {}, lambda _: None)

    def lets_in(self, name: str) -> bool:
        return self._as_root(name, "id", SSH_USER) == 0

    def run(self, name: str, command: list[str]) -> int:
        return self._inside(name, ["runuser", "-u", SSH_USER, "--", "env", "--chdir=/", *command], quiet=False)

    def mount(self, name: str, source: str, target: str) -> None:
        within = Path(source).resolve().relative_to(Path(self.shared).resolve())
        self._as_root(name, "mkdir", "-p", target)
        assert self._as_root(name, "mount", "--bind", f"{self._AT}/{within}", target) == 0, target

    def unmount(self, name: str, target: str) -> None:
        self._as_root(name, "umount", target)

    def _boot(self, name: str, instance: dict[str, Any], user_data: dict[str, Any]) -> None:
        import yaml

        from actions.machines.driver import MachineSpec, Mount, Network
        from actions.machines.nspawn.driver import NspawnDriver

        spec = MachineSpec(
            driver="nspawn", name=name, owner=self.owner, cpus=instance["cpus"], memory_mib=instance["memory"] // 2**20,
            disk_gib=instance["disk"] // 2**30, image=self.image, user=SSH_USER,
            user_data=f"#cloud-config\n{yaml.safe_dump(user_data)}", network=Network("multipass", self.cidr),
            mounts=(Mount(self.shared, self._AT),),
        )  # fmt: skip
        instance["ipv4"] = NspawnDriver().update(spec, lambda _: None).address

    def _as_root(self, name: str, *command: str) -> int:
        return self._inside(name, list(command), quiet=True)

    def _inside(self, name: str, command: list[str], *, quiet: bool) -> int:
        enter = [
            "nsenter",
            f"--target={_init(name)}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd=/",
        ]
        output = subprocess.DEVNULL if quiet else None
        return subprocess.run([*enter, "--", *command], stdout=output, stderr=output).returncode


def _init(name: str) -> int:
    """The id of a machine's first process: the child of nspawn, which is a child of what keeps it running."""
    from actions.machines.nspawn import layout, process

    keeper = process.find(layout.Paths(name))
    assert keeper, f"{name} does not run"
    parents: dict[int, int] = {}
    firsts: list[int] = []
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields["PPid"])
        if fields["NSpid"].split()[1:] == ["1"]:
            firsts.append(pid)
    return next(pid for pid in firsts if parents.get(parents[pid]) == keeper.pid)
