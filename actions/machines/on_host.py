#!/usr/bin/env python3
"""What happens on a host that someone else made, when a stack takes it and when the stack gives it back.

This file is sent there whole and run as root by the host's own Python, as `actions/workloads/on_vm.py` is: it needs nothing but the
standard library, works from Python 3.9 on, imports nothing of ours, reads one JSON document on stdin and prints one. Each action may be
killed at any point and run again.

Shapes:
    take: `{"action": "take", "root": "/", "owner": "<project>/<stack>", "name": "…"}` → `{"in_the_way": ["…"…]}`
    owner: `{"action": "owner", "root": "/"}` → `{"owner": "<project>/<stack>" or null}`
    give_back: `{"action": "give_back", "root": "/"}` → `{"kept": ["<package>"…]}`

A host is taken only if nothing of a sidecar is on it: whatever of these there is afterwards is the stack's, and goes with it.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

RECORD = "var/lib/istio-vms/host.json"
"""In a folder that is not ours alone: a host may be the one that nspawn machines run on, and then it has their disks."""
BRINGS = "var/lib/istio-vms/istio-sidecar.deb.brings"
"""Names of the packages that come with the sidecar's, written before they are installed (`actions/artifacts.py`)."""
PACKAGE, USER, UNIT = "istio-sidecar", "istio-proxy", "istio.service"
PLACES = (
    "etc/istio", "etc/certs", "etc/istio-vms", "etc/systemd/system/istio.service.d", "var/lib/istio", "var/log/istio",
)  # fmt: skip
"""Where the package, its sidecar and we write, besides the package's own files and `/run`."""
SECRETS = "run/secrets"
BIN = "usr/local/bin"
"""A folder that the package puts programs into: dpkg removes it with the last of them, though it may have been there before."""


def take(request: dict[str, Any]) -> dict[str, Any]:
    """Note whose the host is now, unless something is in the way."""
    root, wanted = Path(request["root"]), {key: request[key] for key in ("owner", "name")}
    record = root / RECORD
    if record.exists():
        known = json.loads(record.read_text())
        if {key: known[key] for key in wanted} == wanted:
            return {"in_the_way": []}
        return {"in_the_way": ["machine {name} of {owner}, which has the host".format(**known)]}
    found = ["/" + place for place in PLACES if (root / place).exists() or (root / place).is_symlink()]
    found += [f"package {PACKAGE}"] if _installed([PACKAGE]) else []
    found += [f"user {USER}"] if _user_exists() else []
    if not found:
        record.parent.mkdir(parents=True, exist_ok=True)
        new = record.with_suffix(".new")
        folder = (root / BIN).stat() if (root / BIN).is_dir() else None
        mode = folder and [folder.st_mode & 0o7777, folder.st_uid, folder.st_gid]
        new.write_text(json.dumps({**wanted, "bin": mode}))
        new.replace(record)
    return {"in_the_way": found}


def owner(request: dict[str, Any]) -> dict[str, Any]:
    """Whose the host is."""
    record = Path(request["root"]) / RECORD
    return {"owner": json.loads(record.read_text())["owner"] if record.exists() else None}


def give_back(request: dict[str, Any]) -> dict[str, Any]:
    """Remove what came with the sidecar. Packages that others need by now, or that someone asked for since, are kept."""
    root = Path(request["root"])
    kept = _purge(root)
    _restore_bin(root / BIN, json.loads((root / RECORD).read_text())["bin"])
    _remove_runtime(root)
    if _user_exists():
        _run("userdel", USER)
    for place in PLACES:
        _remove(root / place)
    _run("systemctl", "daemon-reload")
    subprocess.run(["systemctl", "reset-failed", UNIT], stderr=subprocess.DEVNULL)
    record = root / RECORD
    for path in (*record.parent.glob(f"{PACKAGE}.deb*"), record):
        _remove(path)
    if not any(record.parent.iterdir()):
        record.parent.rmdir()
    return {"kept": kept}


def _purge(root: Path) -> list[str]:
    """dpkg, unlike apt, never takes anything else along. What of the packages is there afterwards."""
    brings = root / BRINGS
    names = {*brings.read_text().split()} if brings.exists() else set[str]()
    asked_for = set(_output("apt-mark", "showmanual").split()) - {PACKAGE}
    _dpkg_purge(_installed([PACKAGE]))
    candidates = _installed(sorted(names - {PACKAGE} - asked_for))
    # One by one in any order, until nothing goes any more: each may be what another one is kept by.
    left = candidates
    while left:
        _dpkg_purge(left)
        now = _installed(left)
        if now == left:
            break
        left = now
    return left


def _restore_bin(folder: Path, was: list[int] | None) -> None:
    if was and not folder.exists():
        folder.mkdir()
        folder.chmod(was[0])
        os.chown(folder, was[1], was[2])


def _dpkg_purge(names: list[str]) -> None:
    if names:
        command = ["dpkg", "--purge", *names]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ran.returncode and names == [PACKAGE]:
            raise RuntimeError(f"`{' '.join(command)}` failed: {ran.stdout.strip()}")


def _installed(names: list[str]) -> list[str]:
    """Those that dpkg has anything of."""
    shown = _output("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names) if names else ""
    states = dict(line.split(" ", 1) for line in shown.splitlines())
    return [name for name in names if states.get(name, "not-installed") != "not-installed"]


def _remove_runtime(root: Path) -> None:
    """The sidecar's sockets; the folder itself only if nothing of anybody else is in it."""
    folder = root / SECRETS
    if folder.is_dir():
        for path in folder.iterdir():
            if _owner(path) == USER:
                _remove(path)
        if not any(folder.iterdir()):
            folder.rmdir()


def _owner(path: Path) -> str:
    try:
        return pwd.getpwuid(path.lstat().st_uid).pw_name
    except KeyError:
        return ""


def _user_exists() -> bool:
    try:
        return bool(pwd.getpwnam(USER))
    except KeyError:
        return False


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif place.exists() or place.is_symlink():
        place.unlink()


def _output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def _run(*command: str) -> None:
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {ran.stdout.strip()}")


ACTIONS = {"take": take, "owner": owner, "give_back": give_back}


def main() -> str | None:
    """Run the action that stdin asks for; what to say when it fails."""
    request: dict[str, Any] = json.load(sys.stdin)
    try:
        answer = ACTIONS[request["action"]](request)
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        return str(error)
    print(json.dumps(answer))
    return None


if __name__ == "__main__":
    sys.exit(main())
