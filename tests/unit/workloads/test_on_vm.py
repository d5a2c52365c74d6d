"""What happens on the machine: the real program, run as it is sent, against a folder for `/` and a stand-in for systemctl."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import actions.workloads.on_vm as on_vm
from actions.workloads.files import (
    CLUSTER_ENV,
    KEEPALIVE_DROP_IN,
    MESH_CONFIG,
    ROOT_CERTIFICATE,
    TOKEN,
    UNIT_DROP_IN,
    member_paths,
)

SYSTEMCTL = """#!/bin/sh
cd "$STATE" && echo "$*" >> calls
[ -e "fail-$1" ] && { echo "made to fail"; exit 1; }
case $1 in
  is-active) [ -e active ] ;;
  is-enabled) [ -e enabled ] ;;
  stop) rm -f active; ls "$VM_ROOT/etc/certs" > certificates-at-stop; cp "$VM_ROOT$UNIT_DROP_IN" unit-at-stop || : ;;
  start|restart) touch active ;;
  enable) touch enabled ;;
  disable) rm -f active enabled ;;
  show) echo "Sat 2026-11-21 10:00:00 $TZ" ;;
esac
"""
BLOCK = f"# BEGIN istio-vms\n10.89.0.11 istiod.istio-system.svc\n127.0.1.1 {socket.gethostname()}\n# END istio-vms\n"


class Machine:
    """A folder that stands for the machine's root, and the state of its one unit."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state, tools = folder / "root", folder / "state", folder / "bin"
        for path in (self.root / "etc/certs", self.root / "usr/local/bin", self.state, tools):
            path.mkdir(parents=True)
        for path in on_vm.SIDECAR:
            (self.root / path).touch()
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (tools / "systemctl").write_text(SYSTEMCTL)
        (tools / "systemctl").chmod(0o755)
        self.environment = {
            **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "STATE": str(self.state), "VM_ROOT": str(self.root),
            "UNIT_DROP_IN": UNIT_DROP_IN, "TZ": "Asia/Tokyo",
        }  # fmt: skip

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        ran = self.run(action, **fields)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def run(self, action: str, **fields: Any) -> subprocess.CompletedProcess[str]:
        request = json.dumps({"action": action, "root": str(self.root), **fields})
        command = [sys.executable, "-c", Path(on_vm.__file__).read_text()]
        return subprocess.run(command, input=request, env=self.environment, capture_output=True, text=True, timeout=60)

    def install(self, gateway: str = "10.89.0.11", renew: bool = False, **contents: str) -> dict[str, Any]:
        answer = self.ask("install", **installation(gateway, renew, **contents))
        assert answer.pop("host_name") == socket.gethostname().partition(".")[0]
        assert answer.pop("running_since") == datetime(2026, 11, 21, 10, tzinfo=UTC).timestamp()
        return answer

    def read(self, path: str) -> str:
        return (self.root / path[1:]).read_text()

    def calls(self) -> list[str]:
        """What systemctl was asked since the last time, questions aside."""
        log = self.state / "calls"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [call for call in calls if not call.startswith(("is-", "show"))]

    def certify(self) -> None:
        for path in on_vm.CERTIFICATE:
            (self.root / path[1:]).write_text("of the old root")

    @property
    def certified(self) -> bool:
        return any((self.root / path[1:]).exists() for path in on_vm.CERTIFICATE)


def installation(gateway: str, renew: bool = False, **contents: str) -> dict[str, Any]:
    effects = {
        CLUSTER_ENV: "certificate",
        MESH_CONFIG: "restart",
        ROOT_CERTIFICATE: "certificate",
        UNIT_DROP_IN: "restart",
    }
    names = {CLUSTER_ENV: "env", MESH_CONFIG: "mesh", ROOT_CERTIFICATE: "root", UNIT_DROP_IN: "unit", TOKEN: "token"}
    files = [
        {
            "path": path,
            "content": contents.get(name, f"first {name}\n"),
            "mode": 0o600 if path == TOKEN else 0o644,
            "owner": "istio-proxy",
            "effect": effects.get(path, "none"),
            "rewritten": path == ROOT_CERTIFICATE,
        }
        for path, name in names.items()
    ]
    hosts = "".join(f"{address} istiod.istio-system.svc\n" for address in gateway.split())
    return {"files": files, "hosts": hosts, "port": 15013, "new_certificate": renew, "set_owners": False}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_first_join_writes_everything_and_starts_the_sidecar(machine: Machine) -> None:
    answer = machine.install()
    assert answer["restarted"]
    assert {CLUSTER_ENV, MESH_CONFIG, ROOT_CERTIFICATE, UNIT_DROP_IN, "/etc/hosts"} <= set(answer["changed"])
    assert machine.read("/etc/hosts") == "127.0.0.1 localhost\n" + BLOCK
    assert machine.read("/etc/istio-vms/hosts") == BLOCK
    token = machine.root / TOKEN[1:]
    assert token.read_text() == "first token\n"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.parent.stat().st_mode & 0o777 == 0o700
    assert machine.calls() == ["stop istio.service", "daemon-reload", "enable istio.service", "restart istio.service"]


def test_the_same_again_changes_nothing_but_the_token(machine: Machine) -> None:
    machine.install()
    machine.calls()
    times = {path: path.stat().st_mtime_ns for path in machine.root.rglob("*") if path.is_file()}
    answer = machine.install(token="second token")
    assert answer == {"changed": [], "restarted": False}
    assert machine.calls() == []
    assert machine.read(TOKEN) == "second token"
    del times[machine.root / TOKEN[1:]]
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_unit_that_is_down_is_started_though_no_file_changed(machine: Machine) -> None:
    machine.install()
    (machine.state / "active").unlink()
    machine.calls()
    assert machine.install() == {"changed": [], "restarted": True}
    assert machine.calls() == ["restart istio.service"]


def test_a_new_gateway_address_replaces_the_block(machine: Machine) -> None:
    machine.install()
    with (machine.root / "etc/hosts").open("a") as hosts:
        hosts.write("10.0.0.9 added-by-someone\n")
    machine.calls()
    answer = machine.install(gateway="10.89.0.12")
    assert answer == {"changed": ["/etc/hosts", "/etc/istio-vms/hosts"], "restarted": True}
    hosts = machine.read("/etc/hosts")
    assert hosts == "127.0.0.1 localhost\n10.0.0.9 added-by-someone\n" + BLOCK.replace("10.89.0.11", "10.89.0.12")
    assert machine.calls() == ["stop istio.service", "daemon-reload", "restart istio.service"]


CONNECTED = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A98 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 15015A0A:C350 {remote}:3AA5 {state} 00000000:00000000 00:00000000 00000000   998        0 2 1 0 20 4 30 10 -1
"""


def connect(machine: Machine, address: str, state: str = "01") -> None:
    """Have the kernel say that the sidecar has a connection to istiod's port there."""
    table = machine.root / "proc/net/tcp"
    table.parent.mkdir(parents=True, exist_ok=True)
    remote = "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
    table.write_text(CONNECTED.format(remote=remote, state=state))


@pytest.mark.parametrize("others", ["10.89.0.11 10.89.0.12", "10.89.0.12 10.89.0.11"])
def test_further_addresses_restart_nothing_while_the_connection_leads_to_one_of_them(
    machine: Machine, others: str
) -> None:
    """As in the first run over a machine that was told one address only."""
    machine.install()
    connect(machine, "10.89.0.11")
    machine.calls()
    assert machine.install(gateway=others) == {"changed": [], "restarted": False}
    lines = "".join(f"{address} istiod.istio-system.svc\n" for address in others.split())
    block = BLOCK.replace("10.89.0.11 istiod.istio-system.svc\n", lines)
    assert machine.read("/etc/hosts") == "127.0.0.1 localhost\n" + block
    assert machine.read("/etc/istio-vms/hosts") == block
    assert machine.calls() == []


@pytest.mark.parametrize(("remote", "state"), [("10.89.0.11", "01"), ("10.89.0.12", "02"), ("10.89.0.12", "06")])
def test_a_sidecar_whose_connection_leads_elsewhere_is_restarted(machine: Machine, remote: str, state: str) -> None:
    machine.install()
    connect(machine, remote, state)
    assert machine.install(gateway="10.89.0.12 10.89.0.13")["restarted"]


def test_an_address_of_the_sixth_version_is_found_as_well(machine: Machine) -> None:
    machine.install()
    table = machine.root / "proc/net/tcp6"
    table.parent.mkdir(parents=True)
    remote = "B80D0120000000000000000011000000:3AA5"
    table.write_text(f"  sl  local_address\n   0: {'0' * 32}:C350 {remote} 01 0:0 0:0 0 998 0 2 1 0 20 4 30 10 -1\n")
    assert not machine.install(gateway="2001:db8::11 2001:db8::12")["restarted"]


def test_a_unit_file_that_may_wait_is_there_for_the_next_start(machine: Machine) -> None:
    machine.install()
    machine.calls()
    request = installation("10.89.0.11")
    request["files"].append({**request["files"][-1], "path": KEEPALIVE_DROP_IN, "mode": 0o644, "owner": "root"})
    assert not machine.ask("install", **request)["restarted"]
    assert machine.calls() == ["daemon-reload"]


def test_addresses_are_tried_side_by_side(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        begun = time.monotonic()
        asked: dict[str, Any] = {"port": port, "seconds": 1, "set_owners": False}
        # Nothing leads to 192.0.2.0/24 (RFC 5737).
        answer = machine.ask("reach", addresses=["127.0.0.1", "127.0.0.2", "192.0.2.1", "192.0.2.2"], **asked)
    assert set(answer["silent"]) == {"127.0.0.2", "192.0.2.1", "192.0.2.2"}
    assert answer["silent"]["127.0.0.2"] == "Connection refused"
    assert time.monotonic() - begun < 10


def test_a_gateway_with_a_host_name_needs_only_the_machines_own_name(machine: Machine) -> None:
    machine.install(gateway="")
    assert machine.read("/etc/hosts").endswith(
        f"# BEGIN istio-vms\n127.0.1.1 {socket.gethostname()}\n# END istio-vms\n"
    )


@pytest.mark.parametrize("name", ["root", "env"])
def test_a_new_root_or_identity_drops_the_old_certificate_after_the_stop(machine: Machine, name: str) -> None:
    machine.install()
    machine.certify()
    assert machine.install(**{name: "second"})["restarted"]
    assert not machine.certified
    assert (machine.state / "certificates-at-stop").read_text().split() == [
        "cert-chain.pem",
        "key.pem",
        "root-cert.pem",
    ]


def test_a_certificate_that_is_no_good_is_dropped_after_the_stop(machine: Machine) -> None:
    machine.install()
    machine.certify()
    machine.calls()
    assert machine.install(renew=True) == {"changed": [], "restarted": True}
    assert not machine.certified
    assert "cert-chain.pem" in (machine.state / "certificates-at-stop").read_text()
    assert machine.calls() == ["stop istio.service", "daemon-reload", "restart istio.service"]
    assert machine.install() == {"changed": [], "restarted": False}


def test_a_restart_drops_the_certificate_after_the_stop(machine: Machine) -> None:
    machine.install()
    machine.certify()
    machine.calls()
    machine.ask("restart")
    assert not machine.certified
    assert "cert-chain.pem" in (machine.state / "certificates-at-stop").read_text()
    assert machine.calls() == ["stop istio.service", "restart istio.service"]


def test_the_certificate_is_told_with_the_machines_own_time(machine: Machine) -> None:
    assert machine.ask("certificate")["pem"] is None
    machine.certify()
    told = machine.ask("certificate")
    assert told["pem"] == "of the old root"
    assert abs(told["now"] - time.time()) < 60


@pytest.mark.parametrize("active", [True, False])
def test_the_sidecar_ends_by_the_unit_it_was_started_by(machine: Machine, active: bool) -> None:
    """Its routes go as they came; a unit between two attempts to start is not active, and its routes may be there."""
    machine.install()
    if not active:
        (machine.state / "active").unlink()
    machine.calls()
    assert machine.install(unit="second")["restarted"]
    assert (machine.state / "unit-at-stop").read_text() == "first unit\n"
    assert machine.calls() == ["stop istio.service", "daemon-reload", "restart istio.service"]


def test_the_root_certificate_belongs_to_the_sidecar_once_it_runs(machine: Machine) -> None:
    machine.install()
    place = machine.root / ROOT_CERTIFICATE[1:]
    place.write_text("as the sidecar writes it")
    place.chmod(0o600)
    assert machine.install() == {"changed": [], "restarted": False}
    assert place.read_text() == "as the sidecar writes it"
    place.unlink()
    assert machine.install() == {"changed": [ROOT_CERTIFICATE], "restarted": True}
    assert machine.install(root="second") == {"changed": [ROOT_CERTIFICATE], "restarted": True}
    assert place.read_text() == "second"


def test_a_new_mesh_configuration_keeps_the_certificate(machine: Machine) -> None:
    machine.install()
    machine.certify()
    assert machine.install(mesh="second") == {"changed": [MESH_CONFIG], "restarted": True}
    assert machine.certified


def test_a_run_killed_between_the_files_and_the_restart_is_repaired(machine: Machine) -> None:
    machine.install()
    (machine.state / "fail-restart").touch()
    failed = machine.run("install", **installation("10.89.0.11", mesh="second"))
    assert failed.returncode == 1
    assert "`systemctl restart istio.service` failed: made to fail" in failed.stderr
    assert machine.read(MESH_CONFIG) == "second"
    (machine.state / "fail-restart").unlink()
    (machine.state / "active").touch()  # someone started it meanwhile, before which it may have read either file
    machine.calls()
    assert machine.install(mesh="second") == {"changed": [], "restarted": True}
    assert "restart istio.service" in machine.calls()
    assert machine.install(mesh="second") == {"changed": [], "restarted": False}


def test_the_drop_in_restores_the_block_after_cloud_init_rewrote_hosts(machine: Machine) -> None:
    from actions.workloads.files import unit_drop_in

    machine.install()
    (machine.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    line = next(line for line in unit_drop_in().splitlines() if line.startswith("ExecStartPre="))
    command = line.removeprefix("ExecStartPre=").replace("/etc/", f"{machine.root}/etc/")
    for _ in range(2):
        subprocess.run(["bash", "-c", command], check=True)
        assert machine.read("/etc/hosts") == "127.0.0.1 localhost\n" + BLOCK
    assert machine.install() == {"changed": [], "restarted": False}


def test_a_damaged_block_costs_no_other_line(machine: Machine) -> None:
    (machine.root / "etc/hosts").write_text("# BEGIN istio-vms\n127.0.0.1 localhost\n10.0.0.9 other\n")
    machine.install()
    assert machine.read("/etc/hosts") == "127.0.0.1 localhost\n10.0.0.9 other\n" + BLOCK


def test_leaving_removes_what_joining_made_and_nothing_else(machine: Machine) -> None:
    before = {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()}
    machine.install()
    machine.certify()
    machine.calls()
    fields: dict[str, Any] = {"paths": list(member_paths()), "set_owners": False}
    assert machine.ask("remove", **fields) == {"stopped": True}
    assert {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()} == before
    assert not (machine.root / "etc/istio-vms").exists()
    assert machine.calls() == ["disable --now istio.service", "daemon-reload"]
    assert machine.ask("remove", **fields) == {"stopped": False}


def test_leaving_leaves_what_others_put_into_our_folders(machine: Machine) -> None:
    """As a machine's driver does with its mark."""
    (machine.root / "etc/istio-vms").mkdir()
    (machine.root / "etc/istio-vms/owner").write_text("istio-vms/dev\n")
    before = {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()}
    machine.install()
    for folder in ("etc", "etc/istio-vms", "var/run/secrets/tokens"):
        (machine.root / folder / ".istio-vms-a1b2").write_text("of a run that was killed")
    machine.ask("remove", paths=list(member_paths()), set_owners=False)
    assert {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()} == before


def test_owners_are_set_unless_told_not_to(machine: Machine) -> None:
    request = {**installation("10.89.0.11"), "set_owners": True}
    request["files"][0]["owner"] = "no-such-user"
    failed = machine.run("install", **request)
    assert failed.returncode == 1
    assert "no-such-user" in failed.stderr


def test_ready_needs_cloud_inits_end(machine: Machine) -> None:
    (machine.root / "usr/bin").mkdir()
    (machine.root / "usr/bin/cloud-init").touch()
    assert machine.ask("ready", seconds=0) == {"waiting": True}
    (machine.root / "var/lib/cloud/instance").mkdir(parents=True)
    (machine.root / "var/lib/cloud/instance/boot-finished").touch()
    assert machine.ask("ready", seconds=0) == {"waiting": False}


def test_cloud_init_that_is_disabled_is_not_waited_for(machine: Machine) -> None:
    (machine.root / "usr/bin").mkdir()
    (machine.root / "usr/bin/cloud-init").touch()
    (machine.root / "etc/cloud").mkdir()
    (machine.root / "etc/cloud/cloud-init.disabled").touch()
    assert machine.ask("ready", seconds=0) == {"waiting": False}


def test_a_machine_without_cloud_init_is_not_waited_for(machine: Machine) -> None:
    assert machine.ask("ready", seconds=0) == {"waiting": False}


def test_a_missing_package_is_named_before_anything_changes(machine: Machine) -> None:
    (machine.root / on_vm.SIDECAR[1]).unlink()
    failed = machine.run("install", **installation("10.89.0.11"))
    assert failed.returncode == 1
    assert "(istio-sidecar) is not installed: /usr/local/bin/pilot-agent not found" in failed.stderr
    assert machine.read("/etc/hosts") == "127.0.0.1 localhost\n"
    assert machine.calls() == []


def test_a_new_package_restarts_the_sidecar(machine: Machine) -> None:
    machine.install()
    (machine.root / on_vm.SIDECAR[2]).write_text("another envoy")
    assert machine.install() == {"changed": ["/etc/istio-vms/package"], "restarted": True}
    assert machine.install() == {"changed": [], "restarted": False}


def test_the_log_is_quoted_without_tokens(machine: Machine) -> None:
    (machine.root / "var/log/istio").mkdir(parents=True)
    (machine.root / on_vm.ERROR_LOG).write_text("old\nbearer eyJhbGciOi.eyJpc3M-_.c2ln refused\nlast\n")
    assert machine.ask("diagnose", lines=2)["log"] == ["bearer <token> refused", "last"]
