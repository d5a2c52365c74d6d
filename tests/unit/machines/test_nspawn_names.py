"""The machines' names: what each network's dnsmasq is told, and when it runs. A script stands in for dnsmasq."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from actions.machines.nspawn import NspawnDriver, cgroups, check_host, layout, names, process
from actions.machines.nspawn.record import Lan, Record
from actions.protocol import Failure

CLUSTER = Lan("istio-vms/lab", "cluster", "10.89.0.0/24")
VMS = Lan("istio-vms/lab", "vms", "10.90.0.0/24")
STRANGER = Lan("istio-vms/other", "vms", "10.91.0.0/24")

# the subshell that stays has the command line and the name of the script
STAND_IN = """\
#!/bin/sh
folder=${0%/*}
env >"$folder/environment"
[ ! -e "$folder/refuse" ] || { cat "$folder/refuse" >&2; exit 2; }
(trap 'exit 0' TERM; read never <>"$folder/nothing") </dev/null >/dev/null 2>&1 &
echo $! >>"$folder/started"
"""


def machine(name: str, lan: Lan, address: str) -> Record:
    sizes = {"identity": "1", "image": "/images/root", "user": "ubuntu", "cpus": 1, "memory_mib": 512, "mounts": ()}
    return Record(name=name, owner=lan.owner, network=lan.name, cidr=lan.cidr, address=address, **sizes)


SERVER = machine("lab-server-1", CLUSTER, "10.89.0.11")
AGENT = machine("lab-agent-1", CLUSTER, "10.89.0.9")
VM = machine("lab-vm-1", VMS, "10.90.0.11")
OTHER = machine("other-vm-1", STRANGER, "10.91.0.11")


class Host:
    """What `names` does to a host of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.tools = folder / "tools"
        self.group = folder / "group"
        self.removed_groups: list[str] = []
        self.tools.mkdir()
        self.group.mkdir()
        os.mkfifo(
            self.tools / "nothing"
        )  # to wait for without a child, which would pass for a second dnsmasq until it runs its own program
        (self.tools / "dnsmasq").write_text(STAND_IN)
        (self.tools / "dnsmasq").chmod(0o755)

    @property
    def started(self) -> list[int]:
        """The process of every start so far."""
        return [int(line) for line in (self.tools / "started").read_text().split()]

    def hosts(self, lan: Lan) -> str:
        return (layout.NAMES / lan.bridge / "hosts/machines").read_text()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    monkeypatch.setattr(layout, "NAMES", tmp_path / "names")
    monkeypatch.setattr(cgroups, "make", lambda name: [cgroups.Group(made.group, 1)])
    monkeypatch.setattr(cgroups, "remove", made.removed_groups.append)
    monkeypatch.setenv("PATH", f"{made.tools}:{os.environ['PATH']}")
    yield made
    names.prune([])
    assert names.leftovers() == []


def test_an_owners_machines_know_each_other_on_all_its_networks_and_nobody_elses() -> None:
    known = names.render_hosts("istio-vms/lab", [VM, SERVER, OTHER, AGENT])
    assert known == "10.89.0.9 lab-agent-1\n10.89.0.11 lab-server-1\n10.90.0.11 lab-vm-1\n"


def test_the_command_line_of_dnsmasq() -> None:
    folder = f"/run/istio-vms-names/{CLUSTER.bridge}"
    assert names.arguments(CLUSTER) == [
        "dnsmasq",
        "--conf-file=/dev/null",
        "--user=dnsmasq",
        "--pid-file=",
        f"--log-facility={folder}/log",
        "--bind-interfaces",
        "--listen-address=10.89.0.1",
        "--except-interface=lo",
        "--no-hosts",
        f"--hostsdir={folder}/hosts",
        "--domain-needed",
        "--bogus-priv",
    ]


def test_one_runs_per_network_and_what_runs_is_kept(host: Host) -> None:
    names.serve(CLUSTER, [SERVER])
    names.serve(CLUSTER, [SERVER, AGENT, VM])
    names.serve(VMS, [SERVER, AGENT, VM])
    assert len(host.started) == 2
    assert names.served() == {CLUSTER.bridge, VMS.bridge}
    assert host.hosts(CLUSTER) == host.hosts(VMS) == names.render_hosts("istio-vms/lab", [SERVER, AGENT, VM])


def test_it_gets_a_cgroup_of_its_own_and_nothing_of_the_callers_environment(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "secret")
    names.serve(CLUSTER, [SERVER])
    assert (host.group / "cgroup.procs").read_text() == str(host.started[0])
    assert "secret" not in (host.tools / "environment").read_text()


def test_its_user_can_read_the_names_whatever_the_umask(host: Host) -> None:
    umask = os.umask(0o077)
    try:
        names.serve(CLUSTER, [SERVER])
    finally:
        os.umask(umask)
    hosts = layout.NAMES / CLUSTER.bridge / "hosts"
    folders = (layout.NAMES, hosts.parent, hosts)
    assert [path.stat().st_mode & 0o777 for path in (*folders, hosts / "machines")] == [0o755, 0o755, 0o755, 0o644]


def test_the_same_machines_are_not_written_again(host: Host) -> None:
    names.serve(CLUSTER, [SERVER])
    file = layout.NAMES / CLUSTER.bridge / "hosts/machines"
    before = file.stat().st_ino
    names.serve(CLUSTER, [SERVER])
    assert file.stat().st_ino == before
    assert [path.name for path in file.parent.iterdir()] == ["machines"]


def test_a_killed_one_comes_back(host: Host) -> None:
    names.serve(CLUSTER, [SERVER])
    process.end(host.started[0], lambda: True)
    assert names.served() == set()
    names.serve(CLUSTER, [SERVER])
    assert names.served() == {CLUSTER.bridge}


def test_with_its_last_machine_a_network_loses_its_own_and_no_other(host: Host) -> None:
    for lan in (CLUSTER, VMS, STRANGER):
        names.serve(lan, [SERVER, VM, OTHER])
    names.prune([SERVER, OTHER])
    assert names.served() == {CLUSTER.bridge, STRANGER.bridge}
    assert (host.hosts(CLUSTER), host.hosts(STRANGER)) == ("10.89.0.11 lab-server-1\n", "10.91.0.11 other-vm-1\n")
    assert not (layout.NAMES / VMS.bridge).exists()
    assert host.removed_groups == []


def test_after_the_last_machine_of_all_nothing_is_left(host: Host) -> None:
    names.serve(CLUSTER, [SERVER])
    assert names.leftovers() == [f"process {host.started[0]}: dnsmasq on {CLUSTER.bridge}"]
    names.prune([])
    assert names.leftovers() == []
    assert not layout.NAMES.exists()
    assert host.removed_groups == [names.GROUP]


def test_one_whose_folder_is_gone_is_found_all_the_same(host: Host) -> None:
    names.serve(CLUSTER, [SERVER])
    shutil.rmtree(layout.NAMES)
    names.serve(VMS, [VM])
    assert names.served() == {VMS.bridge}


def test_nobody_elses_dnsmasq_is_touched(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    names.serve(CLUSTER, [SERVER])
    ours = layout.NAMES
    monkeypatch.setattr(layout, "NAMES", ours.with_name("elsewhere"))
    names.serve(CLUSTER, [SERVER])
    names.prune([])
    assert len(host.started) == 2
    monkeypatch.setattr(layout, "NAMES", ours)
    assert names.served() == {CLUSTER.bridge}


def test_one_that_does_not_start_says_why_and_what_to_do(host: Host) -> None:
    (host.tools / "refuse").write_text("dnsmasq: failed to create listening socket for 10.89.0.1: Address in use\n")
    with pytest.raises(Failure, match=r"network cluster: .*Address in use; see who has port 53 with `ss -lntup`"):
        names.serve(CLUSTER, [SERVER])


def test_a_running_machine_whose_name_server_does_not_run_is_not_well(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("actions.machines.nspawn.driver.check_host", lambda: None)
    monkeypatch.setattr(layout, "VAR", tmp_path / "var")
    monkeypatch.setattr(layout, "RUN", tmp_path / "run")
    for record in (SERVER, VM, dataclasses.replace(AGENT, network="vms", cidr=VMS.cidr)):
        record.save()
    for record in (SERVER, VM):
        layout.Paths(record.name).run.mkdir(parents=True)
        layout.Paths(record.name).process.write_text(Path("/proc/self/stat").read_text())
    names.serve(CLUSTER, [SERVER])
    states = {state.name: state.state for state in NspawnDriver().list("istio-vms/lab", {})}
    assert states == {"lab-server-1": "running", "lab-vm-1": "without names", "lab-agent-1": "stopped"}


def test_a_host_without_dnsmasq_is_told_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "dnsmasq" else f"/usr/sbin/{tool}")
    with pytest.raises(Failure, match="dnsmasq is missing: apt-get install dnsmasq-base"):
        check_host()
