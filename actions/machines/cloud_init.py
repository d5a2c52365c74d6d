"""cloud-init user-data, the same for every driver: a pure rendering of plain data.

Modules and keys: https://cloudinit.readthedocs.io/en/latest/reference/modules.html. What is set against cloud-init's defaults:

- `manage_etc_hosts: false`: otherwise `/etc/hosts` is written anew at each boot, which drops what the mesh puts there. The machine's own
  name is kept in it all the same, because sudo looks it up, and waits 20 s for the answer once DNS is captured by a sidecar.
- `ssh_deletekeys: false` with `ssh_genkeytypes: [ed25519]`: host keys that a driver has put there stay, an image without any gets
  one, and the pinned key is the only one a client can be offered. No private key is ever part of user-data.
- `locale: false` and no package updates: nothing that needs a network or takes time unless it is asked for.
- The commands are one script that stops at the first failure, so that cloud-init reports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class File:
    """A text file, written before the commands run. `mode` is octal."""

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root:root"


@dataclass(frozen=True)
class CloudInit:
    """What a machine is to be after its first boot.

    Attributes:
        hostname: one DNS label.
        user: who may log in, with `authorized_keys` only, and become root by sudo without a password.
        authorized_keys: public keys, one line each.
        packages: packages of the distribution.
        files: text files.
        commands: bash scripts, run as root, in order, once; a failing one is the last.
    """

    hostname: str
    user: str
    authorized_keys: tuple[str, ...]
    packages: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    commands: tuple[str, ...] = ()


def render(machine: CloudInit) -> str:
    """User-data in the cloud-config format; equal input gives equal text.

    Raises:
        ValueError: a name, key or path would be refused or misread by the machine.
    """
    _check(machine)
    document: dict[str, Any] = {
        "hostname": machine.hostname,
        "manage_etc_hosts": False,
        "bootcmd": [["sh", "-c", _own_name(machine.hostname)]],
        "locale": False,
        "package_update": bool(machine.packages),
        "package_upgrade": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": False,
        "ssh_genkeytypes": ["ed25519"],
        "users": [
            {
                "name": machine.user,
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(machine.authorized_keys),
            }
        ],
    }
    if machine.packages:
        document["packages"] = list(machine.packages)
    if machine.files:
        document["write_files"] = [
            {"path": f.path, "owner": f.owner, "permissions": f.mode, "content": f.content} for f in machine.files
        ]
    if machine.commands:
        document["runcmd"] = [["bash", "-c", "\n".join(["set -euo pipefail", *machine.commands])]]
    return cloud_config(document)


def cloud_config(document: Mapping[str, Any]) -> str:
    """A document in the cloud-config format: keys in their order, texts of several lines as they are."""
    return "#cloud-config\n" + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def _own_name(hostname: str) -> str:
    """Keeps the machine's own name in /etc/hosts; runs early at every boot."""
    line = f"127.0.1.1 {hostname}"
    return f"grep -qxF '{line}' /etc/hosts || {{ sed -i '/^127\\.0\\.1\\.1[[:space:]]/d' /etc/hosts; echo '{line}' >>/etc/hosts; }}"


def _check(machine: CloudInit) -> None:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", machine.hostname):
        raise ValueError(f"{machine.hostname!r} is no host name: a-z, 0-9 and -, at most 63 characters")
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", machine.user):
        raise ValueError(f"{machine.user!r} is no user name: a-z, 0-9, _ and -, at most 32 characters")
    if not machine.authorized_keys:
        raise ValueError(f"{machine.hostname}: nobody could log in; give at least one authorized key")
    for key in machine.authorized_keys:
        if not re.fullmatch(r"(ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/=]+( [^\n]*)?", key):
            raise ValueError(f"{key[:40]!r}… is no public key: type, base64, and perhaps a comment, on one line")
    for file in machine.files:
        if not file.path.startswith("/") or not re.fullmatch(r"0[0-7]{3}", file.mode):
            raise ValueError(f"{file.path!r}, {file.mode!r}: not an absolute path or not an octal mode such as 0644")


class _Dumper(yaml.CSafeDumper):
    """Writes texts of several lines as blocks, for people who look at what a machine was given."""


def _represent_text(_: _Dumper, text: str) -> yaml.ScalarNode:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
