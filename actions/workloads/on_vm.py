"""What happens on the virtual machine itself. This file is sent there whole and run as root by the machine's own Python.

So it needs nothing but the standard library, works from Python 3.9 on, and imports nothing of ours. It reads one JSON document on
stdin, `{"action": "ready|certificate|install|reach|restart|remove|diagnose", "root": "/", …}`, and prints one. Every action may be
killed at any point and run again; files are replaced whole, never half.

Shapes:
    file: `{"path": "/…", "content": "…", "mode": 420, "owner": "root", "effect": "none|restart|certificate", "rewritten": false}`
    install: `{"files": [file…], "hosts": "<address> <name>" lines, "port": istiod's, "new_certificate": false, "set_owners": true}`
    reach: `{"addresses": ["<address>"…], "port": istiod's, "seconds": 3, "set_owners": true}`
    remove: `{"paths": ["/…"…], "set_owners": true}`
"""

from __future__ import annotations

import calendar
import ipaddress
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

Request = dict[str, Any]
Answer = dict[str, Any]

UNIT = "istio.service"
SIDECAR = ("usr/local/bin/istio-start.sh", "usr/local/bin/pilot-agent", "usr/local/bin/envoy")
CERTIFICATE = ("/etc/certs/cert-chain.pem", "/etc/certs/key.pem")
OURS = "/etc/istio-vms"
HOSTS_BLOCK = f"{OURS}/hosts"
RESTART_PENDING = f"{OURS}/restart-pending"
PACKAGE_STAMP = f"{OURS}/package"
UNITS = "/etc/systemd/system/"
OUR_FOLDERS = ("/etc/systemd/system/istio.service.d", "/var/run/secrets/tokens", OURS)
"""They go with the member where nobody else has anything in them: a machine's driver may keep its own mark there."""
TEMPORARY = ".istio-vms-"
HOSTS_BEGIN, HOSTS_END = "# BEGIN istio-vms", "# END istio-vms"
ESTABLISHED = "01"
"""Of a connection in the kernel's tables."""
ERROR_LOG = "var/log/istio/istio.err.log"
JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+")


def ready(request: Request) -> Answer:
    """Wait up to `seconds` for cloud-init to end; `waiting` says whether it has not."""
    root, end = Path(request["root"]), time.monotonic() + request["seconds"]
    while _cloud_init_runs(root):
        if time.monotonic() > end:
            return {"waiting": True}
        time.sleep(0.5)
    return {"waiting": False}


def _cloud_init_runs(root: Path) -> bool:
    """Whether cloud-init has still work to do; `cloud-init status --wait` may end early, on a passing error."""
    off = any((root / place).exists() for place in ("etc/cloud/cloud-init.disabled", "run/cloud-init/disabled"))
    wanted = (root / "usr/bin/cloud-init").exists() and not off
    return wanted and not (root / "var/lib/cloud/instance/boot-finished").exists()


def certificate(request: Request) -> Answer:
    """The sidecar's certificates, `{"pem": text or null, "now": seconds since 1970}`: the time is this machine's own."""
    place = Path(request["root"]) / CERTIFICATE[0][1:]
    return {"pem": place.read_text(errors="replace") if place.exists() else None, "now": time.time()}


def install(request: Request) -> Answer:
    """Make the files what they should be, and the sidecar run with them; restart it only if something it reads has changed.

    A marker outlives a killed run between the first change and the restart. The sidecar stops before its files change: one that
    runs might write its old certificate back, and its unit is to end by the definition it was started by. A stamp tells whether the package
    is the one the sidecar was last started from.

    `{"changed": paths, "restarted": whether the sidecar was started, "running_since": seconds since 1970 by this machine's clock,
    "host_name": the machine's own name without its domain}`
    """
    root, owners, renew = Path(request["root"]), request["set_owners"], request["new_certificate"]
    hosts = (root / "etc/hosts").read_text() if (root / "etc/hosts").exists() else ""
    block = _block(request["hosts"])
    # The sidecar looks names up whenever it connects; only if its connection leads to a place of before it has to do so now.
    effect = "none" if _leads_to(root, request["hosts"], request["port"]) else "restart"
    files: list[Request] = [
        *request["files"],
        _file(PACKAGE_STAMP, _package_stamp(root)),
        _file(HOSTS_BLOCK, block, effect),
        _file("/etc/hosts", _with_block(hosts, block), effect),
    ]
    changed = [f for f in files if not _same(root, f)]
    telling = [f for f in changed if f["effect"] != "none"]
    if telling or renew:
        _put(root, _file(RESTART_PENDING, "".join(f["path"] + "\n" for f in telling)), owners)
    if (root / RESTART_PENDING[1:]).exists():
        _systemctl("stop", check=True)
    if renew or any(f["effect"] == "certificate" for f in changed):
        _drop_certificate(root)
    for file in changed:
        _put(root, file, owners)
    started = _run_sidecar(root, any(f["path"].startswith(UNITS) for f in changed))
    return {
        "changed": sorted(f["path"] for f in telling),
        "restarted": started,
        "running_since": _running_since(),
        "host_name": socket.gethostname().partition(".")[0],
    }


def _run_sidecar(root: Path, redefined: bool) -> bool:
    """Have the unit enabled and running, by its definition of now; whether it had to be started."""
    if redefined or (root / RESTART_PENDING[1:]).exists():
        _systemctl("daemon-reload", unit="", check=True)
    if not _systemctl("is-enabled", "--quiet"):
        _systemctl("enable", check=True)
    started = not _systemctl("is-active", "--quiet")
    if started:
        # `restart` also ends the waiting of a unit between two attempts; the unit itself never ends: its start is immediate.
        _systemctl("restart", check=True)
    _unlink(root, RESTART_PENDING)
    return started


def _running_since() -> float:
    """When the unit was started, to the second. `systemctl show` prints times in the time zone of its own environment."""
    command = ["systemctl", "show", UNIT, "--property=ActiveEnterTimestamp", "--value"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TZ": "UTC"}).stdout.strip()
    return calendar.timegm(time.strptime(said, "%a %Y-%m-%d %H:%M:%S UTC"))


def restart(request: Request) -> Answer:
    """Restart the sidecar, which then gets its certificate for the token: whatever is wrong with the one it has is over."""
    _systemctl("stop", check=True)
    _drop_certificate(Path(request["root"]))
    _systemctl("restart", check=True)
    return {}


def remove(request: Request) -> Answer:
    """Stop the sidecar for good and take away the member's files, its certificate and its key. The package stays."""
    root = Path(request["root"])
    stopped = _systemctl("is-active", "--quiet")
    if (root / SIDECAR[0]).exists():
        _systemctl("disable", "--now", check=True)
    _drop_certificate(root)
    paths = (*request["paths"], *map(_copy_path, request["paths"]), HOSTS_BLOCK, RESTART_PENDING, PACKAGE_STAMP)
    for path in paths:
        _unlink(root, path)
    for folder in {(root / path[1:]).parent for path in (*paths, "/etc/hosts")}:
        for half_written in folder.glob(f"{TEMPORARY}*"):
            half_written.unlink()
    hosts = root / "etc/hosts"
    if hosts.exists() and HOSTS_BEGIN in hosts.read_text():
        _put(root, _file("/etc/hosts", _with_block(hosts.read_text(), "")), request["set_owners"])
    for folder in OUR_FOLDERS:
        place = root / folder[1:]
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    _systemctl("daemon-reload", unit="", check=True)
    return {"stopped": stopped}


def diagnose(request: Request) -> Answer:
    """The unit's state and the last lines of its error log, without tokens."""
    log = Path(request["root"]) / ERROR_LOG
    lines = log.read_text(errors="replace").splitlines()[-request["lines"] :] if log.exists() else []
    state = subprocess.run(["systemctl", "is-active", UNIT], stdout=subprocess.PIPE, text=True).stdout.strip()
    return {"state": state, "log": [JWT.sub("<token>", line)[:400] for line in lines]}


def _package_stamp(root: Path) -> str:
    """Size and time of the package's programs.

    Raises:
        RuntimeError: they are not there.
    """
    missing = [f"/{path}" for path in SIDECAR if not (root / path).exists()]
    if missing:
        raise RuntimeError(f"the sidecar package (istio-sidecar) is not installed: {', '.join(missing)} not found")
    states = {path: (root / path).stat() for path in SIDECAR}
    return "".join(f"{path} {state.st_size} {state.st_mtime_ns}\n" for path, state in states.items())


def _block(line: str) -> str:
    """Istiod's name and the machine's own: `istio-start.sh` uses sudo, which once DNS is captured waits 20 s for the latter."""
    return f"{HOSTS_BEGIN}\n{line}127.0.1.1 {socket.gethostname()}\n{HOSTS_END}\n"


def _with_block(hosts: str, block: str) -> str:
    """The text with our block at its end instead of wherever it was. A beginning without an end is one line only."""
    lines = hosts.splitlines()
    if HOSTS_BEGIN in lines:
        first = lines.index(HOSTS_BEGIN)
        last = lines.index(HOSTS_END, first) if HOSTS_END in lines[first:] else first
        return _with_block("\n".join(lines[:first] + lines[last + 1 :]), block)
    return "".join(line + "\n" for line in lines) + block


def _leads_to(root: Path, hosts: str, port: int) -> bool:
    """Whether somebody here, who can only be the sidecar, has a connection to that port of one of the hosts."""
    wanted = {_in_proc(line.split()[0]) + f":{port:04X}" for line in hosts.splitlines()}
    tables = (root / "proc/net/tcp", root / "proc/net/tcp6")
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return not wanted or any(fields[2] in wanted and fields[3] == ESTABLISHED for fields in lines)


def _in_proc(address: str) -> str:
    """An address as the kernel's tables have it: words of four bytes, each as this machine keeps a number."""
    raw = ipaddress.ip_address(address).packed
    return "".join(f"{int.from_bytes(raw[i : i + 4], sys.byteorder):08X}" for i in range(0, len(raw), 4))


def reach(request: Request) -> Answer:
    """Try the addresses, all at once, as the sidecar would: `{"silent": {"<address>": why}}` has those that do not answer.

    What anyone but the sidecar's own user sends is captured, and answered by the sidecar itself.
    """
    if request["set_owners"]:
        os.seteuid(pwd.getpwnam("istio-proxy").pw_uid)
    silent: dict[str, str] = {}

    def attempt(address: str) -> None:
        try:
            socket.create_connection((address, request["port"]), request["seconds"]).close()
        except OSError as error:
            silent[address] = error.strerror or str(error)

    threads = [threading.Thread(target=attempt, args=(address,)) for address in request["addresses"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"silent": silent}


def _file(path: str, content: str, effect: str = "restart") -> Request:
    return {"path": path, "content": content, "mode": 0o644, "owner": "root", "effect": effect, "rewritten": False}


def _same(root: Path, file: Request) -> bool:
    """Whether a file is what it should be. One that the sidecar rewrites was, if it is there and our copy of it says so."""
    place = root / file["path"][1:]
    if file["rewritten"]:
        return place.is_file() and _same(root, _copy(file))
    return (
        place.is_file()
        and place.read_bytes() == file["content"].encode()
        and place.stat().st_mode & 0o777 == file["mode"]
    )


def _copy(file: Request) -> Request:
    return {**file, "path": _copy_path(file["path"]), "rewritten": False}


def _copy_path(path: str) -> str:
    return f"{OURS}/{Path(path).name}"


def _put(root: Path, file: Request, set_owners: bool) -> None:
    """Replace a file whole, with its owner and mode from the first moment on."""
    place = root / file["path"][1:]
    if not place.parent.is_dir():
        place.parent.mkdir(parents=True)
        if not file["mode"] & 0o077:
            place.parent.chmod(0o700)
        if set_owners:
            shutil.chown(str(place.parent), file["owner"], file["owner"])
    handle, temporary = tempfile.mkstemp(dir=str(place.parent), prefix=TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), file["mode"])
            if set_owners:
                shutil.chown(temporary, file["owner"], file["owner"])
            stream.write(file["content"].encode())
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink()
        raise
    if file["rewritten"]:
        _put(root, _copy(file), set_owners)


def _drop_certificate(root: Path) -> None:
    for path in CERTIFICATE:
        _unlink(root, path)


def _unlink(root: Path, path: str) -> None:
    place = root / path[1:]
    if place.exists():
        place.unlink()


def _systemctl(verb: str, *flags: str, unit: str = UNIT, check: bool = False) -> bool:
    """Whether systemctl agreed.

    Raises:
        RuntimeError: it did not, and `check` is set.
    """
    command = ["systemctl", verb, *flags, *([unit] if unit else [])]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and ran.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {ran.stdout.strip()}")
    return ran.returncode == 0


ACTIONS = {
    "ready": ready,
    "certificate": certificate,
    "install": install,
    "reach": reach,
    "restart": restart,
    "remove": remove,
    "diagnose": diagnose,
}


def main() -> str | None:
    """Run the action that stdin asks for; what to say when it fails."""
    request: Request = json.load(sys.stdin)
    try:
        answer = ACTIONS[request["action"]](request)
    except (OSError, LookupError, RuntimeError) as error:
        return str(error)
    print(json.dumps(answer))
    return None


if __name__ == "__main__":
    sys.exit(main())
