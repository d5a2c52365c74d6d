"""A stack on Multipass as its user sees it, from the first `up` to a `down` that leaves nothing. Needs root and Linux.

No Multipass can run here: the fake of its command line boots machines of driver nspawn. The tests run in this order on one stack.
"""

import json
import os
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.kube import ApiCluster
from actions.machines.nspawn import record
from tests.fakes.multipass_machines import Booted
from tests.fakes.multipass_world import FakeMultipass
from tests.trial import ROOT, Trial, alone

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]

STACK, CIDR = "e2emp", "10.105.0.0/24"
NAMED = {short: f"{STACK}-{short}" for short in ("server-1", "vm-1", "vm-2")}
BOX = {"cpus": 1, "memory": "512Mi"}


def workload(*vms: str) -> dict[str, Any]:
    """On the cluster's own network, so that each VM has routes to the pods of every node."""
    return {
        "name": "external-app", "namespace": "vmns", "serviceAccount": "external-app", "version": "vm", "network": "cluster-network",
        "ports": [{"name": "http", "port": 8000}], "probe": {"path": "/", "port": 8000}, "vms": [{"name": vm, **BOX} for vm in vms],
    }  # fmt: skip


class Laptop:
    """A machine with Multipass, the stack's checkout, and what is asked of both."""

    def __init__(self, made: Trial, fake: FakeMultipass) -> None:
        self.trial, self.fake = made, fake

    def address(self, machine: str) -> str:
        return self.fake.instances[NAMED[machine]]["ipv4"]

    def cluster(self) -> ApiCluster:
        return ApiCluster(Path(self.trial.make("kubeconfig").check().text.splitlines()[-1]).read_text())

    def settle(self, *vms: str) -> None:
        self.trial.settings["istio-vms:workloads"] = [workload(*vms)]
        self.trial.write_settings()

    def traffic_flows(self, *vms: str) -> None:
        """From each VM to a pod, and from a pod to one of the VMs."""
        for vm in vms:
            said = self.trial.ssh(vm, "curl -sS -m 5 http://helloworld.sample.svc:5000/hello").check().text
            assert "Hello version: v" in said
        cluster = self.cluster()
        pod = cluster.items("/api/v1/namespaces/sample/pods", "app=curl")[0]["metadata"]["name"]
        words = ("curl", "-sS", "-m", "5", "http://external-app.vmns.svc:8000/headers")
        assert "x-forwarded-client-cert" in cluster.run("sample", pod, "curl", words, timeout=15).stdout


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Laptop]:
    """The stack, not up yet."""
    fake = FakeMultipass(tmp_path_factory.mktemp("multipass"))
    fake.faults(network=CIDR)
    lab = yaml.safe_load((ROOT / "Pulumi.lab.yaml").read_text())["config"]["istio-vms:machines"]
    image, shared = (str(Path(path).expanduser()) for path in (lab["image"], lab["mounts"][0]["source"]))
    booted = Booted(image, CIDR, shared)
    with alone(STACK), pytest.MonkeyPatch.context() as patch:
        for key, value in (fake.environment | {"MULTIPASS_FAKE_MACHINES": json.dumps(vars(booted))}).items():
            patch.setenv(key, value)
        made = Trial(tmp_path_factory.mktemp("stack"), STACK, {"cluster": CIDR, "vm": "10.105.1.0/24"})
        machines = {"driver": "multipass", "image": "24.04", "mounts": lab["mounts"]}
        cluster = made.settings["istio-vms:cluster"] | {
            "servers": {"count": 1, "cpus": 2, "memory": "3Gi"},
            "agents": {"count": 0},
        }
        cluster.pop("network")
        made.settings |= {"istio-vms:machines": machines, "istio-vms:cluster": cluster}
        made.settings |= {f"istio-vms:{table}": {} for table in ("policies", "telemetry")} | {"istio-vms:traffic": []}
        laptop = Laptop(made, fake)
        laptop.settle("vm-1", "vm-2")
        yield laptop
        made.make("down")
        for known in record.load_all():
            if known.owner == booted.owner:
                booted.remove(known.name)


def test_it_comes_up(laptop: Laptop) -> None:
    laptop.trial.make("up").check()
    assert sorted(laptop.fake.instances) == sorted(NAMED.values())
    laptop.traffic_flows("vm-1", "vm-2")


def test_machines_that_come_back_at_each_others_addresses_are_followed(laptop: Laptop) -> None:
    """As after a reboot of the host: the server is elsewhere, and a VM is where the server was."""
    before = {machine: laptop.address(machine) for machine in NAMED}
    elsewhere = {NAMED["server-1"]: "10.105.0.31", NAMED["vm-1"]: before["server-1"]}
    laptop.fake.run("stop", *NAMED.values())
    laptop.fake.faults(network=CIDR, new_addresses=elsewhere)
    laptop.trial.make("up").check()
    laptop.fake.faults(network=CIDR)
    assert {laptop.address("server-1"), laptop.address("vm-1")} == {"10.105.0.31", before["server-1"]}
    outputs = json.loads(laptop.trial.pulumi("stack", "output", "--json", "--show-secrets"))
    assert yaml.safe_load(outputs["kubeconfig"])["clusters"][0]["cluster"]["server"] == "https://10.105.0.31:6443"
    assert before["server-1"] not in json.dumps(outputs["gateways"])
    for vm in ("vm-1", "vm-2"):
        hosts = laptop.trial.ssh(vm, "cat /etc/hosts; ip route").check().text
        assert re.search(r"^10\.105\.0\.31 istiod-", hosts, re.MULTILINE), hosts
        assert f"via {before['server-1']}" not in hosts
    laptop.traffic_flows("vm-1", "vm-2")
    assert re.search(r"Resources:\n +\d+ unchanged\n", laptop.trial.make("up").check().text)


def test_a_vm_taken_out_of_the_settings_goes(laptop: Laptop) -> None:
    laptop.settle("vm-1")
    laptop.trial.make("up").check()
    assert sorted(laptop.fake.instances) == [NAMED["server-1"], NAMED["vm-1"]]
    laptop.traffic_flows("vm-1")


def test_down_leaves_nothing_whatever_came_before(laptop: Laptop) -> None:
    """A VM that has lost its mark, as by leaving the mesh once, and a server that does not run."""
    laptop.trial.ssh("vm-1", "sudo rm -r /etc/istio-vms").check()
    laptop.fake.run("stop", NAMED["server-1"])
    laptop.trial.make("down").check()
    assert laptop.fake.instances == {}
    assert not [known for known in record.load_all() if known.cidr == CIDR]
    assert not (laptop.trial.state / "istio-vms").exists()
