"""What a VM is told of the mesh, for real: ways to istiod that go, another mesh configuration, another root certificate.

The tests run in this order on one small stack. Needs root and Linux.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actions.kube import ApiObject
from tests.e2e.conftest import Environment
from tests.trial import trial

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]

CIDRS = {"cluster": "10.103.0.0/24", "vm": "10.103.1.0/24"}
ISTIOD_PORT = 15013
RECONNECT_SECONDS = 45
"""20 s until the sidecar asks, 5 s until it knows, half of the 20 s of an attempt for the dead one of two addresses."""
SYSTEM = "/api/v1/namespaces/istio-system"


class Told(Environment):
    """The stack, and what its VM knows and does."""

    def connected_to(self) -> set[str]:
        """The gateway's addresses that the VM has a connection to istiod through."""
        said = self.on("vm-1", f"ss -Htn state established dport = :{ISTIOD_PORT}")
        return set(re.findall(rf"(\d+(?:\.\d+){{3}}):{ISTIOD_PORT}\b", said))

    def started(self) -> str:
        """When the sidecar was last started."""
        return self.on("vm-1", "systemctl show istio --property=ActiveEnterTimestampMonotonic --value").strip()

    def connected_at(self) -> str:
        """When istiod says that the VM has connected; empty while it says that it has not."""
        return self.entry("vm-1")["metadata"]["annotations"].get("istio.io/connectedAt", "")

    def root(self) -> str:
        """The root certificate that the VM was given."""
        return self.on("vm-1", "sudo cat /etc/istio-vms/root-cert.pem")

    def restart(self, namespace: str, selector: str = "") -> None:
        """Have other pods in the place of these, and wait until they are ready."""
        pods = f"/api/v1/namespaces/{namespace}/pods"
        before = self.names(pods, selector)
        for name in before:
            self.cluster.delete(f"{pods}/{name}")
        deadline = time.monotonic() + 90
        while not all(map(_is_ready, now := self.cluster.items(pods, selector))) or before & _named(now) or not now:
            assert time.monotonic() < deadline, f"pods of {namespace} {selector}: {_named(now)}"
            time.sleep(0.5)


def _is_ready(pod: ApiObject) -> bool:
    conditions: list[dict[str, Any]] = pod["status"].get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def _named(pods: Sequence[ApiObject]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Generator[Told]:
    """Two nodes, so that the gateway has two addresses, and one VM."""
    with trial(tmp_path_factory.mktemp("told"), "told", CIDRS) as made:
        made.settings["istio-vms:cluster"]["agents"]["count"] = 1
        workload = made.settings["istio-vms:workloads"][0]
        workload["vms"] = workload["vms"][1:2]
        workload["vms"][0]["name"] = "vm-1"
        made.settings["istio-vms:workloads"] = [workload]
        made.settings |= {"istio-vms:policies": {}, "istio-vms:telemetry": {}, "istio-vms:traffic": []}
        made.write_settings()
        made.make("up").check()
        yield Told(made)


def test_losing_the_address_in_use_costs_seconds_and_no_up(told: Told) -> None:
    (used,) = told.connected_to()
    hosts = told.on("vm-1", "cat /etc/hosts")
    nodes = {name: told.address(name) for name in ("server-1", "agent-1")}
    assert {line.split()[0] for line in hosts.splitlines() if "istiod-" in line} == set(nodes.values())
    node = next(name for name, address in nodes.items() if address == used)
    before, started = told.connected_at(), told.started()
    rule = f"PREROUTING -s {told.address('vm-1')} -j DROP"
    told.on(node, f"sudo iptables -t raw -I {rule}")
    try:
        begun = time.monotonic()
        while told.connected_to() <= {used} or told.connected_at() in ("", before):
            assert time.monotonic() - begun < RECONNECT_SECONDS
            time.sleep(0.5)
        print(f"the VM was connected again after {time.monotonic() - begun:.0f} s")
    finally:
        told.on(node, f"sudo iptables -t raw -D {rule}")
    assert told.started() == started, "the sidecar did it by itself"


def test_another_mesh_configuration_reaches_the_vm_in_the_up_that_makes_it(told: Told) -> None:
    told.trial.settings["istio-vms:mesh"]["values"]["istiod"]["meshConfig"] = {
        "defaultConfig": {"proxyMetadata": {"TOLD": "by the mesh"}, "concurrency": 1}
    }
    told.trial.write_settings()
    told.trial.make("up").check()
    files = told.ask("vm-1", env="cat /var/lib/istio/envoy/cluster.env", mesh="cat /etc/istio/config/mesh")
    assert "TOLD='by the mesh'" in files["env"]
    assert re.search(r"^  concurrency: 1$", files["mesh"], re.MULTILINE)
    agent = told.on("vm-1", "sudo cat /proc/$(pgrep -o pilot-agent)/environ | tr '\\0' '\\n'")
    assert "TOLD=by the mesh" in agent
    assert "GRPC_KEEPALIVE_INTERVAL=20s" in agent


def test_a_second_up_changes_nothing(told: Told) -> None:
    started = told.started()
    said = told.trial.make("up").check().text
    assert re.search(r"Resources:\n +\d+ unchanged\n", said), said
    assert told.started() == started


def certificate_authority(folder: Path) -> dict[str, str]:
    """A CA as Istio takes it from the secret `cacerts`, in base64."""
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/O=another root",
        "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    names = {"ca-cert.pem": "ca-cert.pem", "ca-key.pem": "ca-key.pem"}
    names |= {"root-cert.pem": "ca-cert.pem", "cert-chain.pem": "ca-cert.pem"}
    return {name: base64.b64encode((folder / file).read_bytes()).decode() for name, file in names.items()}


def test_after_the_root_was_replaced_one_up_brings_the_vm_back(told: Told, tmp_path: Path) -> None:
    data = certificate_authority(tmp_path)
    told.cluster.create(f"{SYSTEM}/secrets", {"metadata": {"name": "cacerts"}, "data": data})
    for app in ("istiod", "istio-eastwestgateway", "istio-ingressgateway"):
        told.restart("istio-system", f"app={app}")
    # As Istio's documentation asks for: a pod keeps the certificate that it has for hours.
    told.restart("sample")
    said = told.trial.make("up").check().text
    assert re.search(r"repair: root certificate: SHA-256 \w+ → SHA-256 \w+; updating the VMs", said)
    expected = base64.b64decode(data["root-cert.pem"]).decode()
    assert told.root() == expected
    issuer = told.on("vm-1", "sudo openssl x509 -in /etc/certs/cert-chain.pem -noout -issuer")
    assert "another root" in issuer
    seen = told.in_client_pod("curl", "-sS", "-m", "5", "http://external-app.vmns.svc:8000/hello")
    assert "instance: told-vm-1" in seen.stdout, seen.stderr
    assert "Hello version: v" in told.on("vm-1", "curl -sS -m 5 http://helloworld.sample.svc:5000/hello")


def test_a_node_that_is_not_wanted_any_more_goes_and_nobody_is_sent_there(told: Told) -> None:
    server, agent = told.address("server-1"), told.address("agent-1")
    told.trial.settings["istio-vms:cluster"]["agents"]["count"] = 0
    told.trial.write_settings()
    said = told.trial.make("up").check().text
    assert "has moved" not in said
    assert said.count("200, mutual TLS as") == 2
    assert told.names("/api/v1/nodes") == {f"{told.trial.stack}-server-1"}
    hosts = told.on("vm-1", "cat /etc/hosts")
    assert server in hosts and agent not in hosts
    pods = [pod for pod in told.cluster.items("/api/v1/pods") if "deletionTimestamp" not in pod["metadata"]]
    assert {pod["spec"].get("nodeName") for pod in pods} == {f"{told.trial.stack}-server-1"}
    assert "nothing changed" in told.trial.make("up").check().text
