"""The whole environment for real, as its user sees it: up, every promise, down, nothing left. Needs root and Linux.

The tests run in this order on one stack; it is a copy of the lab stack with networks and state of its own, so that it may run beside
a user's.
"""

import base64
import ipaddress
import json
import os
import re
import signal
import ssl
import sys
import time
from collections import Counter

import pytest
import yaml

from actions.machines.nspawn import layout, process, record
from actions.samples.application import APPLICATION_UNIT
from tests.e2e.conftest import CIDRS, NODES, VMS, Bystander, Environment, Host, processes
from tests.trial import Trial
from verify.checks import CHECKS

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"
)

REVISION = "1-30"
ISTIOD = f"istiod-{REVISION}.istio-system.svc"
VMNS = "/api/v1/namespaces/vmns"
ISTIO = "/apis/networking.istio.io/v1/namespaces"


def subnet(env: Environment, machine: str) -> str:
    return str(ipaddress.ip_network(f"{env.address(machine)}/24", strict=False))


def test_wrong_settings_are_all_named_and_nothing_is_made(stack: Trial) -> None:
    right = json.dumps(stack.settings)
    stack.settings["istio-vms:machines"]["networks"][1]["cidr"] = "10.97.0.128/25"
    stack.settings["istio-vms:cluster"]["servers"] = {"count": 0}
    stack.settings["istio-vms:mesh"]["eastWestPorts"] = {"status": 15021}
    stack.settings["istio-vms:workloads"][0]["vms"][1]["network"] = "nowhere"
    stack.settings["istio-vms:samples"]["colour"] = "red"
    stack.write_settings()
    refused = stack.make("preview")
    stack.settings = json.loads(right)
    stack.write_settings()
    assert refused.code != 0
    assert "Traceback" not in refused.text
    for path in (
        "machines.networks[1].cidr", "cluster.servers.count", "mesh.eastWestPorts.status", "workloads[0].vms[1].network", "samples.colour",
    ):  # fmt: skip
        assert f"istio-vms:{path}" in refused.text, path
    assert list(stack.state.glob("**/stacks/istio-vms/*")) == [], "there is not even a stack"
    assert stack.machines() == {}


def test_a_preview_of_an_empty_stack_makes_nothing(stack: Trial) -> None:
    shown = stack.make("preview").check().text
    assert re.search(r"\+ \d+ to create", shown)
    assert stack.machines() == {}


def test_up_survived_being_killed_twice(env: Environment) -> None:
    said = env.trial.logs()
    assert said.count("an earlier run was cut off") == 2
    assert re.search(r"removing the lock of process \d+, which is no more", said)
    assert "removing the Helm release istiod-" in said


def test_seven_machines_run_on_two_networks_that_reach_each_other(env: Environment) -> None:
    machines = env.trial.machines()
    assert {name: machine["state"] for name, machine in machines.items()} == dict.fromkeys((*NODES, *VMS), "running")
    assert {subnet(env, name) for name in (*NODES, "vm-1", "vm-4")} == {CIDRS["cluster"]}
    assert {subnet(env, name) for name in ("vm-2", "vm-3")} == {CIDRS["vm"]}
    for one, other in (("vm-2", "server-1"), ("server-1", "vm-2"), ("vm-1", "vm-2")):
        env.on(one, f"ping -c1 -W2 {machines[other]['address']}")


def test_a_vm_of_the_other_network_has_no_way_to_pods_but_the_gateway(env: Environment) -> None:
    pod = env.cluster.items("/api/v1/namespaces/sample/pods", "app=helloworld")[0]["status"]["podIP"]
    assert "10.42." not in env.on("vm-2", "ip route")
    assert env.connects("agent-1", pod, 5000, user="root")
    assert not env.connects("vm-2", pod, 5000)
    assert env.connects("vm-2", env.address("agent-1"), 15443)


def test_three_nodes_without_traefik_and_with_servicelb(env: Environment) -> None:
    nodes = env.cluster.items("/api/v1/nodes")
    ready = {
        n["metadata"]["name"]
        for n in nodes
        for c in n["status"]["conditions"]
        if (c["type"], c["status"]) == ("Ready", "True")
    }
    assert ready == {f"e2e-{name}" for name in NODES}
    assert not [name for name in env.names("/apis/apps/v1/deployments") if "traefik" in name]
    balancers = env.cluster.items("/apis/apps/v1/daemonsets", "svccontroller.k3s.cattle.io/svcname")
    assert {item["status"]["numberReady"] for item in balancers} == {3}
    assert len(balancers) == 2


def test_secrets_are_only_where_they_belong(env: Environment) -> None:
    assert env.kubeconfig.stat().st_mode & 0o777 == 0o600
    plain, shown = env.trial.pulumi("stack", "export"), env.trial.pulumi("stack", "export", "--show-secrets")
    said = env.trial.logs()
    for what, secret in env.secrets().items():
        assert secret in shown, f"the test looks for something that is no {what}"
        assert secret not in plain, f"the state has the {what} in the clear"
        assert secret not in said, f"a log has the {what}"
    assert "PRIVATE KEY" not in plain
    left = [path for path in env.trial.state.rglob("*") if path != env.kubeconfig]
    assert [
        path for path in left if path.stat().st_mode & 0o077 and path.is_relative_to(env.trial.state / "istio-vms")
    ] == []
    for what, secret in env.secrets().items():
        forms = (secret.encode(), base64.b64encode(secret.encode()).rstrip(b"="))
        files = [path for path in left if path.is_file() and any(form in path.read_bytes() for form in forms)]
        assert files == [], f"the {what} lies there in the clear"
    assert (env.trial.state / "istio-vms").stat().st_mode & 0o077 == 0


def test_istio_is_released_with_a_revision_that_is_the_default(env: Environment) -> None:
    releases = env.cluster.items("/api/v1/namespaces/istio-system/secrets", "owner=helm,status=deployed")
    assert {release["metadata"]["labels"]["name"] for release in releases} == {
        "istio-base", f"istiod-{REVISION}", "istio-default-revision", "istio-ingressgateway", "istio-eastwestgateway",
    }  # fmt: skip
    tags = env.cluster.items(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "istio.io/tag=default"
    )
    assert [tag["metadata"]["labels"]["istio.io/rev"] for tag in tags] == [REVISION]


@pytest.mark.parametrize(
    ("gateway", "ports"),
    [
        ("istio-ingressgateway", {"status-port": 15021, "http2": 80, "https": 443}),
        ("istio-eastwestgateway", {"status-port": 15022, "tls": 15443, "tls-istiod": 15013, "tls-webhook": 15018}),
    ],
)
def test_gateways_are_reached_at_every_node(env: Environment, gateway: str, ports: dict[str, int]) -> None:
    service = env.get(f"/api/v1/namespaces/istio-system/services/{gateway}")
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports
    addresses = {entry["ip"] for entry in service["status"]["loadBalancer"]["ingress"]}
    assert addresses == {env.address(name) for name in NODES}


def test_istiod_answers_at_the_gateway_to_its_own_name_only(env: Environment) -> None:
    for node in NODES:
        assert ISTIOD in env.certificate_names(env.address(node), 15013, asked=ISTIOD)
    for other in ("istiod.istio-system.svc", "istiod-other.istio-system.svc"):
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            env.certificate_names(env.address("server-1"), 15013, asked=other)


def test_the_mesh_knows_the_workload(env: Environment) -> None:
    group = env.get(f"{ISTIO}/vmns/workloadgroups/external-app")["spec"]
    assert group["template"] == {"serviceAccount": "external-app", "network": "vm-network"}
    assert group["probe"]["httpGet"] == {"path": "/", "port": 8000}
    service = env.get(f"{VMNS}/services/external-app")["spec"]
    assert [(port["name"], port["port"]) for port in service["ports"]] == [("http", 8000)]
    assert group["metadata"]["labels"] == service["selector"] | {"version": "vm"}
    assert env.get(f"{VMNS}/serviceaccounts/external-app")
    assert env.get("/api/v1/namespaces/vmns")["metadata"]["labels"]["istio.io/rev"] == REVISION


@pytest.mark.parametrize("vm", VMS)
def test_a_vm_is_a_member(env: Environment, vm: str) -> None:
    secrets = "/etc/certs/root-cert.pem /etc/certs/key.pem /var/run/secrets/tokens/istio-token"
    said = env.ask(
        vm,
        boot="cloud-init status",
        unit="systemctl is-active istio; systemctl is-enabled istio",
        users="ps -C envoy,pilot-agent -o user:20=",
        settings="cat /var/lib/istio/envoy/cluster.env",
        mesh="cat /etc/istio/config/mesh",
        gateway=f"grep ' {ISTIOD}$' /etc/hosts",
        secrets=f"sudo stat -c '%a %U' {secrets}",
        token="! cat /var/run/secrets/tokens/istio-token 2>&1",
    )
    assert said["boot"] == "status: done"
    assert said["unit"].split() == ["active", "enabled"]
    assert set(said["users"].split()) == {"istio-proxy"}
    assert f"CA_ADDR='{ISTIOD}:15013'" in said["settings"]
    assert f"ISTIO_SVC_IP='{env.address(vm)}'" in said["settings"]
    assert yaml.safe_load(said["mesh"])["defaultConfig"]["discoveryAddress"] == f"{ISTIOD}:15013"
    assert said["gateway"].split()[0] in {env.address(name) for name in NODES}
    assert set(said["secrets"].splitlines()) == {"600 istio-proxy"}
    assert "Permission denied" in said["token"]
    entry = env.entry(vm)
    assert entry["spec"]["address"] == env.address(vm)
    assert {(c["type"], c["status"]) for c in entry["status"]["conditions"]} == {("Healthy", "True")}


def test_traffic_flows_both_ways_under_identities(env: Environment) -> None:
    shown = env.trial.make("status").check().text
    assert len(re.findall(r"e2e-vm-\d +\S+ +healthy +ends in \d+ \w+ +SYNCED", shown)) == len(VMS)
    shown = env.trial.make("up").check().text
    proven = Counter(re.findall(r"200, mutual TLS as spiffe://cluster.local/ns/(\S+)", shown))
    assert proven == {"sample/sa/curl": 4, "vmns/sa/external-app": 3, "sample/sa/helloworld-vm": 1}
    env.traffic_flows()


def test_a_second_up_changes_nothing(env: Environment) -> None:
    said = env.trial.make("up").check().text
    assert re.search(r"Resources:\n +\d+ unchanged\n", said), said


def test_every_promise_holds(env: Environment) -> None:
    document = env.holds()
    assert len(document["checks"]) == len(CHECKS)
    assert re.search(r"Resources:\n +\d+ unchanged\n", env.trial.make("up").check().text)


def test_a_broken_promise_is_seen_and_told(env: Environment) -> None:
    env.on("vm-2", f"sudo systemctl stop {APPLICATION_UNIT}")
    try:
        document = env.verify("--only mesh-to-vm,dns")
    finally:
        env.on("vm-2", f"sudo systemctl start {APPLICATION_UNIT}")
    assert {check["name"]: check["passed"] for check in document["checks"]} == {"dns": True, "mesh-to-vm": False}
    failed = [f["what"] for check in document["checks"] for f in check["findings"] if f["verdict"] == "FAILS"]
    assert failed == ["pod → e2e-vm-2: the caller is authenticated"]


def test_other_policies_shares_and_ports_count_after_the_next_up(env: Environment) -> None:
    boots, keys = env.boots(), env.host_keys()
    settings = env.trial.settings
    settings["istio-vms:mesh"]["eastWestPorts"] = {"istiod": 16013}
    settings["istio-vms:policies"] |= {"mtls": "PERMISSIVE", "namespaceMtls": {"vmns": "STRICT"}}
    settings["istio-vms:policies"]["authorization"].pop(
        0
    )  # it would answer plaintext with 403, and so hide who lets it in
    settings["istio-vms:traffic"][0]["routes"][-1]["shares"] = {"v1": 0, "vm": 100}
    settings["istio-vms:telemetry"] = {"accessLogs": "namespaces", "namespaces": ["vmns"]}
    env.trial.write_settings()
    said = env.trial.make("up").check().text
    assert not re.search(r"-machine (creating|updating|replac|deleting)", said)
    assert (env.boots(), env.host_keys()) == (boots, keys)
    for vm in VMS:
        assert f"CA_ADDR='{ISTIOD}:16013'" in env.on(vm, "cat /var/lib/istio/envoy/cluster.env")
    assert ISTIOD in env.certificate_names(env.address("server-1"), 16013, asked=ISTIOD)
    evidence = json.dumps(env.holds("--calm"))
    assert "PERMISSIVE): plaintext from outside is accepted" in evidence
    assert "vmns: STRICT): plaintext from outside is refused" in evidence
    assert "does not log the request" in evidence
    env.trial.make("status").check()


def test_vms_follow_a_gateway_that_moved(env: Environment) -> None:
    boots, node = env.boots(), env.address("agent-2")
    env.on("server-1", "sudo kubectl label node e2e-agent-2 svccontroller.k3s.cattle.io/enablelb=true")
    deadline = time.monotonic() + 60
    path = "/api/v1/namespaces/istio-system/services/istio-eastwestgateway"
    while [entry["ip"] for entry in env.get(path)["status"]["loadBalancer"].get("ingress", [])] != [node]:
        assert time.monotonic() < deadline
        time.sleep(1)
    env.trial.make("up").check()
    assert env.boots() == boots
    env.holds("--only gateway,vm-to-mesh,mesh-to-vm")


def test_machines_that_went_down_come_back_the_same(env: Environment) -> None:
    boots, machines, entry = env.boots(), env.trial.machines(), env.entry("vm-2")["metadata"]["name"]
    env.on("vm-2", "sudo systemctl poweroff")
    deadline = time.monotonic() + 30
    while env.trial.machines()["vm-2"]["state"] != "stopped":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert env.trial.make("status").code != 0
    said = env.trial.make("up").check().text
    assert "machine e2e-vm-2 is stopped; starting it" in said
    assert env.trial.machines() == machines
    assert env.boots()["vm-1"] == boots["vm-1"]
    assert env.boots()["vm-2"] != boots["vm-2"]
    assert env.entry("vm-2")["metadata"]["name"] == entry
    env.traffic_flows()


def test_everything_comes_back_after_a_power_failure(env: Environment) -> None:
    machines = env.trial.machines()
    for name in machines:
        running = process.find(layout.Paths(f"{env.trial.stack}-{name}"))
        assert running
        os.kill(running.pid, signal.SIGKILL)
    env.trial.make("up").check()
    assert env.trial.machines() == machines
    env.traffic_flows()


def test_down_leaves_nothing_and_touches_nobody_else(
    env: Environment, bystander: Bystander, sysctls_before: dict[str, str]
) -> None:
    host, other = Host(), bystander.process()
    others = host.traces() - host.traces_of(env.trial.owner, env.trial.stack)
    assert host.traces_of(env.trial.owner, env.trial.stack)
    env.trial.make("down").check()
    assert env.trial.machines() == {}
    assert host.traces_of(env.trial.owner, env.trial.stack) == set()
    assert not (env.trial.state / "istio-vms").exists()
    assert [words for _, words in processes() if any(str(env.trial.checkout) in word for word in words)] == []
    assert bystander.process() == other
    assert {line for line in others if "bystander" in line} <= host.traces()
    bystander.delete()
    if record.load_all() == []:
        assert host.traces() == set()
        assert host.sysctls() == sysctls_before
