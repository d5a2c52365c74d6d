"""The command line `multipass`: what it is asked, how its answers read, and what its failures mean to a person."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from actions.protocol import Failure

OWNER_FILE = "/etc/istio-vms/owner"
HOST_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
ANSWER_SECONDS = 120
"""How long a command that does not wait for a machine may take."""
EXEC_SECONDS = 30
SNAPSHOT_SECONDS = 600
MINIMUM = (1, 13, 0)
"""The first release with snapshots, whose settings also say what is being prepared."""

DAEMON_UNAVAILABLE, TIMED_OUT = 3, 5
NO_DAEMON = "cannot connect to the multipass socket"
NO_ACCESS = "multipass socket access denied"
NO_TRUST = "is not authenticated with the Multipass service"

RUNNING, STOPPED, SUSPENDED, DELETED = "Running", "Stopped", "Suspended", "Deleted"
DELAYED_SHUTDOWN, UNKNOWN, UNAVAILABLE = "Delayed Shutdown", "Unknown", "Unavailable"

_UNITS_MIB = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
_MACOS_SERVICE = "/Library/LaunchDaemons/com.canonical.multipassd.plist"


class NoAnswerError(Failure):
    """The command line did not end in time."""


@dataclass(frozen=True)
class Instance:
    """One line of `multipass list`. `address` is empty while there is none."""

    name: str
    state: str
    address: str


@dataclass(frozen=True)
class Identity:
    """What a machine says of itself through `multipass exec`; empty where it has no such file."""

    owner: str
    host_key: str


def check_host() -> None:
    """See that machines can run here: the command line is there and new enough, and its daemon answers us and is of the same release.

    Raises:
        Failure: they cannot; the message says why and what to do.
    """
    ran = run("version", "--format", "json")
    found: dict[str, str] = json.loads(ran.stdout) if ran.returncode == 0 else {}
    client = _release(found.get("multipass", ""))
    if client < MINIMUM:
        wanted, shown = ".".join(map(str, MINIMUM)), found.get("multipass", "of long ago")
        raise Failure(f"Multipass is {shown}, and {wanted} or newer is needed. {_update()}, then run this again")
    if "multipassd" not in found:
        instances()  # its failure says why there is no answer
    elif _release(found["multipassd"]) != client:
        raise Failure(
            f"the Multipass daemon is {found['multipassd']} and its command line {found['multipass']}: the daemon of an earlier release "
            f"still runs. {_how_to('restart')}, then run this again"
        )


def instances() -> list[Instance]:
    """All instances, everyone's.

    Raises:
        Failure: Multipass cannot be asked.
    """
    ran = check(run("list", "--format", "json"), "the instances cannot be listed")
    rows: list[dict[str, Any]] = json.loads(ran.stdout)["list"]
    return [Instance(row["name"], row["state"], _address(row.get("ipv4", []))) for row in rows]


def find(name: str) -> Instance | None:
    """The instance of that name, deleted ones included, or None."""
    return next((instance for instance in instances() if instance.name == name), None)


def identify(name: str) -> Identity | None:
    """What a running machine says of itself, over Multipass's own channel; None while it lets nobody in."""
    try:
        ran = run(
            "exec", name, "--no-map-working-directory", "--", "cat", OWNER_FILE, HOST_KEY_FILE, seconds=EXEC_SECONDS
        )
    except NoAnswerError:
        return None
    lines = ran.stdout.splitlines()
    if ran.returncode and not lines and "No such file" not in ran.stderr:
        return None
    keys = [" ".join(line.split()[:2]) for line in lines if re.match(r"ssh-ed25519 [A-Za-z0-9+/=]+", line)]
    owners = [line for line in lines if not line.startswith("ssh-")]
    return Identity(owner=owners[0] if owners else "", host_key=keys[0] if keys else "")


def being_prepared(name: str) -> bool:
    """Whether a launch has begun whose instance is in no list yet: asking for a snapshot of it is answered with that."""
    ran = run("get", f"local.{name}.none.name")
    return ran.returncode != 0 and "instance is being prepared" in ran.stderr


def setting(name: str, key: str) -> str:
    """A setting of an instance: `cpus` as a number, `memory` and `disk` as `2.0GiB`."""
    return check(run("get", f"local.{name}.{key}"), f"the {key} of {name} cannot be read").stdout.strip()


def mounts(name: str) -> dict[str, str]:
    """The folders mounted in an instance: target to source."""
    ran = check(run("info", name, "--format", "json"), f"the mounts of {name} cannot be read")
    table: dict[str, dict[str, Any]] = json.loads(ran.stdout)["info"][name]["mounts"]
    return {target: mount["source_path"] for target, mount in table.items()}


def snapshots(name: str) -> dict[str, str]:
    """The snapshots of an instance: name to comment."""
    ran = check(run("list", "--snapshots", "--format", "json"), f"the snapshots of {name} cannot be listed")
    table: dict[str, dict[str, Any]] = json.loads(ran.stdout)["info"].get(name, {})
    return {snapshot: str(values.get("comment", "")) for snapshot, values in table.items()}


def mib(shown: str) -> tuple[float, float]:
    """A size as Multipass shows it, and how much rounding may have taken or added; both in MiB."""
    match = re.fullmatch(r"([0-9.]+)([KMG]iB)", shown)
    if not match:
        raise Failure(f"Multipass shows a size as {shown!r}, which this driver does not know; is it newer than 1.16?")
    unit = _UNITS_MIB[match[2]]
    return float(match[1]) * unit, 0.0501 * unit


def size_differs(shown: str, wanted_mib: int) -> bool:
    """Whether a size as Multipass shows it cannot be the wanted one."""
    size, rounding = mib(shown)
    return abs(size - wanted_mib) > rounding


def check_words(name: str, *others: str) -> None:
    """See that a name is one for Multipass (`valid_hostname` of its utils.cpp) and that nothing can be taken for an option.

    Raises:
        Failure: it is not.
    """
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?", name):
        raise Failure(f"{name!r} is no instance name: it begins with a letter, and has letters, digits and - only")
    for word in others:
        if word.startswith("-"):
            raise Failure(f"{name}: {word!r} is neither an image nor a network")


def run(*words: str, seconds: float = ANSWER_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run the command line.

    Raises:
        Failure: it is not installed, does not answer, or its daemon will not have us.
    """
    try:
        ran = subprocess.run(
            ["multipass", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except FileNotFoundError:
        raise not_installed() from None
    except subprocess.TimeoutExpired:
        said = f"`multipass {words[0]}` gave no answer for {seconds:g} s"
        raise NoAnswerError(f"{said}. {_how_to('restart')}, then run this again") from None
    return answered(ran)


def answered(ran: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same, unless it was not the daemon that answered, or the daemon did not do as it was asked for who we are.

    Raises:
        Failure: there is no daemon, or it is not for us.
    """
    if ran.returncode == 0:
        return ran
    if ran.returncode == DAEMON_UNAVAILABLE or NO_DAEMON in ran.stderr:
        raise Failure(
            f"the Multipass daemon does not run or cannot be reached. {_how_to('start')}, then run this again"
        )
    if NO_ACCESS in ran.stderr:
        raise Failure(f"this user may not use the socket of Multipass's daemon. {_socket_access()}")
    if NO_TRUST in ran.stderr:
        raise Failure(
            "the Multipass daemon does not know this user yet. Somebody whom it does sets a passphrase with `multipass set "
            "local.passphrase`; give it to `multipass authenticate`, then run this again"
        )
    return ran


def check(ran: subprocess.CompletedProcess[str], what: str) -> subprocess.CompletedProcess[str]:
    """The same, if it succeeded.

    Raises:
        Failure: `what`, and how the command ended.
    """
    if ran.returncode:
        raise failed(what, ran)
    return ran


def failed(what: str, ran: subprocess.CompletedProcess[str]) -> Failure:
    """The error for a command that failed."""
    said = "\n".join(line for line in ran.stderr.splitlines() if line.strip())[-2000:]
    return Failure(f"{what}: multipass {ran.args[1]} ended with exit code {ran.returncode}:\n{said}")


def not_installed() -> Failure:
    """The error for a command line that is not there."""
    return Failure(
        "there is no `multipass` on PATH. Install it (`sudo snap install multipass`; on macOS `brew install --cask multipass`), or "
        "choose another driver for the machines: nspawn or existing"
    )


def _release(version: str) -> tuple[int, ...]:
    """The numbers of `1.16.3`, `1.16.3+mac` or `1.17.0-dev.9+gabc`; zeros for anything else."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, match.groups())) if match else (0, 0, 0)


def _address(ipv4: list[str]) -> str:
    """The management address is the first; `N/A` stands for none."""
    return ipv4[0] if ipv4 and re.fullmatch(r"[0-9.]+", ipv4[0]) else ""


def _how_to(verb: str) -> str:
    """How the daemon is started or restarted, as Multipass's own how-to guides do it."""
    if platform.system() == "Darwin":
        unload = f"sudo launchctl unload {_MACOS_SERVICE} && " if verb == "restart" else ""
        return f"To {verb} it: `{unload}sudo launchctl load {_MACOS_SERVICE}`"
    return f"To {verb} it: `sudo snap {verb} multipass`"


def _update() -> str:
    if platform.system() == "Darwin":
        return "To update it: `brew upgrade --cask multipass`, or the newest installer over the old one"
    return "To update it: `sudo snap refresh multipass`"


def _socket_access() -> str:
    if platform.system() == "Darwin":
        return "`ls -l /var/run/multipass_socket` shows which group may (admin); an administrator adds you to it in the system settings"
    return (
        "`ls -l /var/snap/multipass/common/multipass_socket` shows which group may (sudo, most often): "
        "`sudo usermod -aG sudo $USER`, log in again, then run this again"
    )
