"""The driver for existing hosts, against an SSH server in this process whose commands run here, with stand-ins for the host's tools."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actions.cluster.k3s_removal import REMOVE
from actions.machines import drivers, existing
from actions.machines.driver import MachineSpec, Mount
from actions.machines.existing import PROGRAMS, ExistingDriver, Removal
from actions.machines.keys import make_pair
from actions.protocol import Failure
from actions.registry import REMOVALS
from actions.workloads.vm import LEAVE
from tests.unit.test_ssh import PRIVATE, Server

SUDO = '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n'
# Answers with the file named after the action that the JSON on stdin asks for, and remembers what was asked.
PYTHON = """#!/bin/sh
case "$2" in *version_info*) [ ! -e {0}/old-python ]; exit ;; esac
request=$(cat)
echo "$request" >>{0}/asked
cat "{0}/answers/$(echo "$request" | sed -E 's/.*"action": "([a-z_]+)".*/\\1/')"
"""


class Host(Server):
    """A Debian host with systemd that is nobody's; `lacks` takes a program away, `says` changes what an action answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools").mkdir()
        (folder / "answers").mkdir()
        (folder / "systemd").mkdir()
        for program in {*PROGRAMS, "dpkg-query", "uname"} - {"python3"}:
            self.tool(program, "#!/bin/sh\n")
        self.tool("uname", "#!/bin/sh\necho x86_64\n")
        self.tool("sudo", SUDO)
        self.tool("python3", PYTHON.format(folder))
        self.says("take", in_the_way=[])
        self.says("owner", owner="istio-vms/prod")
        self.says("remove", stopped=True)
        self.says("give_back", kept=[])
        super().__init__(folder / "tools")

    def tool(self, name: str, text: str) -> None:
        path = self.folder / "tools" / name
        path.write_text(text)
        path.chmod(0o755)

    def says(self, action: str, **answer: Any) -> None:
        (self.folder / "answers" / action).write_text(json.dumps(answer))

    def asked(self) -> list[dict[str, Any]]:
        asked = self.folder / "asked"
        return [json.loads(line) for line in asked.read_text().splitlines()] if asked.exists() else []

    def options(self, **changes: Any) -> dict[str, Any]:
        given = {
            "host": "localhost",
            "port": self.port,
            "host_key": self.host_key,
            "user": "tester",
            "private_key": PRIVATE,
        }
        return given | changes


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path)
    check = existing._CHECK.replace("/run/systemd/system", f"{tmp_path}/systemd")
    monkeypatch.setattr(existing, "_CHECK", check)
    monkeypatch.setattr(existing, "CHECK_SECONDS", 5)
    yield made
    made.close()


def spec(options: dict[str, Any], **changes: Any) -> MachineSpec:
    fields: dict[str, Any] = {"driver": "existing", "name": "prod-vm-1", "owner": "istio-vms/prod", "cpus": 1}
    fields |= {"memory_mib": 1024, "disk_gib": 10, "image": "", "user": "tester", "user_data": ""}
    return MachineSpec(**fields | {"options": options} | changes)


def ensure(options: dict[str, Any], **changes: Any) -> Any:
    return ExistingDriver([]).ensure(spec(options, **changes), lambda line: None)


def delete(options: dict[str, Any], *removals: Removal) -> list[str]:
    lines: list[str] = []
    ExistingDriver(removals).delete("prod-vm-1", "istio-vms/prod", options, lines.append)
    return lines


def test_a_host_that_lets_us_in_is_a_machine(host: Host) -> None:
    state = ensure(host.options(host_key=f"{host.host_key} a comment"))
    assert dataclasses.asdict(state) == {
        "name": "prod-vm-1",
        "address": "127.0.0.1",
        "port": host.port,
        "user": "tester",
        "host_key": host.host_key,
        "state": "running",
    }
    assert host.asked() == [{"root": "/", "action": "take", "owner": "istio-vms/prod", "name": "prod-vm-1"}]


def test_another_host_key_is_refused_with_both_fingerprints(host: Host) -> None:
    with pytest.raises(Failure, match=r"prod-vm-1: .*presents the host key SHA256:\S+, pinned is SHA256:"):
        ensure(host.options(host_key=make_pair()[1]))
    assert host.commands == []


def test_a_host_that_refuses_the_key_is_said(host: Host) -> None:
    with pytest.raises(Failure, match=r"prod-vm-1: tester@127.0.0.1:\d+ refuses the key SHA256:.*authorized_keys"):
        ensure(host.options(private_key=make_pair()[0]))


def test_a_user_without_sudo_is_said_with_what_to_do(host: Host) -> None:
    host.tool("sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    with pytest.raises(Failure, match=r"tester on localhost cannot become root .*NOPASSWD:ALL' >/etc/sudoers.d/tester"):
        ensure(host.options())
    assert host.asked() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda host: (host.folder / "systemd").rmdir(), "does not run systemd"),
        (lambda host: host.tool("uname", "#!/bin/sh\necho riscv64\n"), "is riscv64; the sidecar is there for x86_64 and arm64"),
        (lambda host: (host.folder / "old-python").touch(), "has a Python older than 3.9"),
    ],
)  # fmt: skip
def test_a_host_of_another_kind_is_said(host: Host, change: Any, says: str) -> None:
    change(host)
    with pytest.raises(Failure, match=rf"prod-vm-1: localhost cannot be used: it {says}"):
        ensure(host.options())
    assert host.asked() == [], "nothing was done there"


def test_all_that_is_wrong_is_said_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the machine of the tests has itself cannot be taken away: a name that is nowhere stands for it.
    text = existing._CHECK.replace("apt-get", "apt-nowhere").replace("curl", "curl-nowhere")
    monkeypatch.setattr(existing, "_CHECK", text)
    with pytest.raises(Failure, match=r"is no Debian or Ubuntu.*, and lacks apt-nowhere curl-nowhere; install them"):
        ensure(host.options())


def test_what_is_in_the_way_is_said(host: Host) -> None:
    host.says("take", in_the_way=["/etc/certs", "package istio-sidecar"])
    with pytest.raises(Failure, match=r"localhost has /etc/certs, package istio-sidecar already\. .*another host"):
        ensure(host.options())


def test_a_missing_host_key_says_how_to_get_and_verify_it(host: Host) -> None:
    with pytest.raises(Failure) as raised:
        ensure(host.options(host_key=""))
    assert f"ssh-keyscan -t ed25519 -p {host.port} localhost" in str(raised.value)
    assert "console" in str(raised.value)
    assert host.key.get_base64() not in str(raised.value), "trust on first use is not offered"


def test_an_unreachable_host_is_said(host: Host) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(Failure, match=r"cannot be reached: .*refused"):
        ensure(host.options(port=port))


def test_a_name_without_address_is_said(host: Host) -> None:
    with pytest.raises(Failure, match=r"no\.such\.invalid has no IPv4 address"):
        ensure(host.options(host="no.such.invalid"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"host": ""}, "no host is given"),
        ({"hostKey": "y"}, "unknown options: hostKey; known are host, user, host_key, private_key, port"),
        ({"user": "", "private_key": ""}, "user and private_key missing"),
    ],
)
def test_options_that_are_wrong_are_said(host: Host, change: dict[str, Any], says: str) -> None:
    with pytest.raises(Failure, match=says):
        ensure(host.options(**change))


def test_folders_cannot_be_mounted(host: Host) -> None:
    with pytest.raises(Failure, match="give its artifacts by url"):
        ensure(host.options(), mounts=(Mount("/a", "/b"),))


def test_delete_gives_the_host_back(host: Host) -> None:
    without = host.folder / "without"
    lines = delete(host.options(), Removal(*LEAVE), Removal(f"cat >{without}", b"all of it"))
    assert lines[-1] == "prod-vm-1: localhost is as it was"
    assert [request["action"] for request in host.asked()] == ["owner", "remove", "give_back"]
    assert without.read_text() == "all of it"
    assert "/var/lib/istio/envoy/cluster.env" in host.asked()[1]["paths"]


def test_a_removal_that_fails_keeps_the_host_ours(host: Host) -> None:
    with pytest.raises(Failure, match=r"prod-vm-1: the script failed with exit code 1:\ncannot be unmounted"):
        delete(host.options(), Removal("echo cannot be unmounted >&2; exit 1"))
    assert [request["action"] for request in host.asked()] == ["owner"]


def test_packages_that_stay_are_said(host: Host) -> None:
    host.says("give_back", kept=["iptables"])
    assert delete(host.options())[-1].endswith("but for packages that are needed by now: iptables")


@pytest.mark.parametrize("owner", [None, "istio-vms/other"])
def test_delete_touches_no_host_of_another(host: Host, owner: str | None) -> None:
    host.says("owner", owner=owner)
    without = host.folder / "without"
    assert delete(host.options(), Removal(f"touch {without}")) == [
        "prod-vm-1: nothing on localhost is of istio-vms/prod"
    ]
    assert [request["action"] for request in host.asked()] == ["owner"]
    assert not without.exists()


def test_a_host_that_cannot_be_given_back_is_an_error(host: Host) -> None:
    options = host.options()
    host.close()
    with pytest.raises(Failure, match="cannot be reached"):
        delete(options)


def test_no_existing_host_is_listed() -> None:
    assert ExistingDriver([]).list("istio-vms/prod", {}) == []


def test_the_key_is_in_no_text(host: Host) -> None:
    assert PRIVATE.splitlines()[1] not in repr(existing.Options.parse("x", host.options()))
    ensure(host.options())
    assert not any(PRIVATE.splitlines()[1] in command for command in host.commands)


def test_all_that_is_put_on_a_host_is_taken_away_again() -> None:
    assert (Removal(*LEAVE), Removal(REMOVE)) == REMOVALS
    made = drivers.driver("existing", REMOVALS)
    assert made._removals == REMOVALS
