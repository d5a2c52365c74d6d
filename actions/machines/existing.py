"""The driver for hosts that someone else made: takes one for a machine of the stack, and gives it back as it was.

Such a host is prepared by its owner: the user, our key, sudo without a password. cloud-init, sizes, image and network do not apply to it.
Nothing but a note of whose it is comes on the host here; what else the stack puts there, over SSH, goes when it is given back.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actions import ssh
from actions.machines.driver import MachineSpec, MachineState, Removal
from actions.protocol import Failure, Progress

CHECK_SECONDS = 10
GIVE_BACK_SECONDS = 300
_ON_HOST = ssh.python_script(Path(__file__).with_name("on_host.py"))

PROGRAMS = ("apt-get", "dpkg-query", "systemctl", "curl", "sha256sum", "flock", "awk", "userdel", "python3")
"""What is used on a host besides a shell; all of them are on any Debian or Ubuntu, curl and python3 perhaps not."""

# Each line says what is wrong; none when the host will do.
_CHECK = f"""\
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || echo "is no Debian or Ubuntu, whose packages the sidecar comes as"
[ -d /run/systemd/system ] || echo "does not run systemd, which the sidecar is started by"
case "$(uname -m)" in x86_64 | aarch64 | arm64) ;; *) echo "is $(uname -m); the sidecar is there for x86_64 and arm64" ;; esac
for program in {" ".join(PROGRAMS)}; do
  command -v "$program" >/dev/null || missing="$missing $program"
done
[ -z "$missing" ] || echo "lacks$missing; install them"
! command -v python3 >/dev/null || python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || echo "has a Python older than 3.9"
exit 0
"""


@dataclass(frozen=True)
class Options:
    """The driver's own table in a machine's settings.

    Attributes:
        host: where it is, an address or a name.
        user: whom the key opens, and who may become root.
        host_key: its public host key, type and base64.
        private_key: the key that opens it.
        port: where sshd listens.
    """

    host: str
    user: str
    host_key: str
    private_key: str = field(repr=False)
    port: int = 22

    @classmethod
    def parse(cls, name: str, table: Mapping[str, Any]) -> Options:
        """Read the table.

        Raises:
            Failure: a key is unknown, or something is missing.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(table) - set(known)):
            raise Failure(f"{name}: unknown options: {', '.join(unknown)}; known are {', '.join(known)}")
        host, port = str(table.get("host", "")), int(table.get("port", 22))
        if not host:
            raise Failure(f"{name}: no host is given; an existing machine needs its address and its host key")
        if not table.get("host_key"):
            raise Failure(
                f"{name}: no host key is given. `ssh-keyscan -t ed25519 -p {port} {host}` shows the one that {host} presents; compare its "
                "fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's own console before you pin it"
            )
        if missing := [key for key in ("user", "private_key") if not table.get(key)]:
            raise Failure(
                f"{name}: {' and '.join(missing)} missing; an existing machine needs a user and the key that opens it"
            )
        given = {key: str(table[key]) for key in ("host_key", "user", "private_key")}
        return cls(host=host, port=port, **given)


class ExistingDriver:
    """Machines that are not ours."""

    def __init__(self, removals: Sequence[Removal]) -> None:
        """`removals` are run in this order before a host is given back."""
        self._removals = removals

    def ensure(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """See that the host is the pinned one, lets us in, can be used, and is nobody else's; note that it is ours now.

        Raises:
            Failure: it does not, or something was asked that only a machine of ours can have.
        """
        options = Options.parse(spec.name, spec.options)
        if spec.mounts:
            raise Failure(f"{spec.name}: folders cannot be mounted into an existing host; give its artifacts by url")
        address = _resolve(spec.name, options)
        progress(f"{spec.name}: checking {options.user}@{options.host}:{options.port}")
        with _session(spec.name, address, options) as session:
            if found := session.run(_CHECK, timeout=CHECK_SECONDS).splitlines():
                raise Failure(f"{spec.name}: {options.host} cannot be used: it {', and '.join(found)}")
            took = _ask(session, {"action": "take", "owner": spec.owner, "name": spec.name})
        if in_the_way := took["in_the_way"]:
            raise Failure(
                f"{spec.name}: {options.host} has {', '.join(in_the_way)} already. Nothing of a sidecar may be on a host that is taken, "
                "so that all of it can be removed again: remove it, or give another host"
            )
        host_key = " ".join(options.host_key.split()[:2])
        return MachineState(spec.name, address, options.port, options.user, host_key, "running")

    def update(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """As `ensure`, which never looks at user-data of a machine that is there."""
        return self.ensure(spec, progress)

    def delete(self, name: str, owner: str, options: Mapping[str, Any], progress: Progress) -> None:
        """Take away what the stack has put there; the host itself stays.

        Raises:
            Failure: it cannot be reached, or does not let us in any more.
        """
        target = Options.parse(name, options)
        with _session(name, _resolve(name, target), target) as session:
            if _ask(session, {"action": "owner"})["owner"] != owner:
                progress(f"{name}: nothing on {target.host} is of {owner}")
                return
            progress(f"{name}: removing from {target.host} what was put there")
            for removal in self._removals:
                session.run(removal.script, removal.stdin, GIVE_BACK_SECONDS)
            kept = _ask(session, {"action": "give_back"})["kept"]
        progress(
            f"{name}: {target.host} is as it was"
            + (f", but for packages that are needed by now: {', '.join(kept)}" if kept else "")
        )

    def list(self, owner: str, options: Mapping[str, Any]) -> list[MachineState]:
        """None: no existing host belongs to us."""
        return []


@contextmanager
def _session(name: str, address: str, options: Options) -> Generator[ssh.Session]:
    """A session of a user who may become root; what goes wrong in it is said as the machine's."""
    user = options.user
    try:
        with ssh.connect(address, options.port, user, options.private_key, options.host_key, CHECK_SECONDS) as session:
            if user != "root":
                try:
                    session.run("sudo -n true", timeout=CHECK_SECONDS, as_root=False)
                except ssh.CommandError:
                    raise Failure(
                        f"{name}: {user} on {options.host} cannot become root by sudo without a password; its owner lets it: "
                        f"echo '{user} ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/{user}"
                    ) from None
            yield session
    except ssh.SshError as error:
        raise Failure(f"{name}: {error}") from error


def _ask(session: ssh.Session, request: Mapping[str, Any]) -> dict[str, Any]:
    """Have `on_host.py` do something as root on the host."""
    return json.loads(session.run(_ON_HOST, json.dumps({"root": "/", **request}).encode(), GIVE_BACK_SECONDS))


def _resolve(name: str, options: Options) -> str:
    """The host's IPv4 address, which k3s and Istio know it by."""
    try:
        found = socket.getaddrinfo(options.host, options.port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise Failure(f"{name}: {options.host} has no IPv4 address here: {error.strerror or error}") from error
    return str(found[0][4][0])
