"""The whole program under Pulumi's mocks: inputs, parents, options, secrets. Nothing is run."""

import asyncio
import json
import runpy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pytest

from actions.protocol import MARKER, parse
from actions.registry import ACTIONS
from tests.unit.test_settings import DEV, LAB, ROOT, put

KUBECONFIG = "server: https://127.0.0.1:6443\n"
MACHINE = {"address": "10.89.0.11", "port": 22, "user": "ubuntu", "state": "running", "host_key": "ssh-ed25519 HOST"}
PRINTED: dict[str, Any] = {
    "machines.make-secrets": {"private_key": "PRIVATE", "public_key": "ssh-ed25519 AAAA", "token": "TOKEN"},
    "cluster.begin": {"kubeconfig": KUBECONFIG},
    "cluster.install": {"kubeconfig": KUBECONFIG},
    "cluster.member": {"node": "n"},
    "cluster.claim": {"kubeconfig": KUBECONFIG, "version": "v1.32.0", "node_addresses": ["10.0.0.1"]},
    "mesh.gateway-addresses": {"addresses": ["10.89.0.11", "10.89.0.12"], "ports": {}},
    "mesh.root-certificate": {"root_certificate": "-----BEGIN CERTIFICATE-----"},
    "mesh.mesh-config": {
        "trust_domain": "mesh.local", "mesh_id": "mesh9", "proxy_config": {"proxyMetadata": {"SAID": "by the mesh"}},
    },
    "mesh.reinject": {"restarted": []},
    "workloads.join": {
        "workload_entry": "entry", "namespace": "vmns", "address": "a", "healthy": True, "connected_at": "now",
    },
    "samples.prove": [],
}  # fmt: skip
"""What each action prints."""


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Answers as the real commands would, and keeps what was registered."""

    made: dict[str, pulumi.runtime.MockResourceArgs] = field(default_factory=dict)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made[args.name] = args
        outputs = dict(args.inputs)
        if str(args.inputs.get("create", "")).startswith("echo "):
            outputs["stdout"] = args.inputs["create"].removeprefix("echo ")
        elif args.typ.startswith("command:"):
            outputs["stdout"] = self._stdout(args)
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}

    @staticmethod
    def _stdout(args: pulumi.runtime.MockResourceArgs) -> str:
        action = args.inputs["environment"][MARKER]
        if action == "machines.ensure":
            name = json.loads(unwrapped(args.inputs["stdin"]))["name"]
            return json.dumps({**MACHINE, "name": name})
        return json.dumps(PRINTED[action])


def run_program(tables: dict[str, Any], stack: str = "lab", preview: bool = True) -> Recorder:
    """Run `__main__.py` with these settings and wait for every resource."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="istio-vms", stack=stack, preview=preview)
    pulumi.runtime.set_all_config({f"istio-vms:{key}": json.dumps(value) for key, value in tables.items()})

    @pulumi.runtime.test
    def run() -> None:
        runpy.run_path(str(ROOT / "__main__.py"))

    run()
    return recorder


@pytest.fixture(scope="module")
def lab() -> Iterator[Recorder]:
    yield run_program(LAB)


def stdin(recorder: Recorder, name: str) -> dict[str, Any]:
    """The document a command reads; the mocks hand secrets over in the clear."""
    return json.loads(unwrapped(recorder.made[name].inputs["stdin"]))


def script(recorder: Recorder, name: str) -> str:
    """The script that makes a node."""
    request = stdin(recorder, name)
    assert request["token"] == "TOKEN"
    return request["script"]


def unwrapped(value: Any) -> Any:
    """A value without the wrapping that says it is secret."""
    return value["value"] if isinstance(value, dict) and "4dabf18193072939515e22adb298388d" in value else value


def test_seven_machines_and_nothing_of_them_is_secret(lab: Recorder) -> None:
    machines = {name: args for name, args in lab.made.items() if name.endswith("-machine")}
    names = ("agent-1", "agent-2", "server-1", "vm-1", "vm-2", "vm-3", "vm-4")
    assert sorted(machines) == [f"lab-{name}-machine" for name in names]
    spec = stdin(lab, "lab-vm-2-machine")
    assert spec["network"] == {"name": "vm", "cidr": "10.89.1.0/24"}
    assert (spec["owner"], spec["memory_mib"]) == ("istio-vms/lab", 1024)
    assert "PRIVATE" not in json.dumps(spec)
    assert "istio-sidecar" in spec["user_data"]
    assert "istio-sidecar" not in stdin(lab, "lab-agent-1-machine")["user_data"]


def test_a_machine_boots_its_own_image_and_another_one_makes_it_anew() -> None:
    tables = put(put(LAB, "cluster.agents.image", "/srv/agents"), "workloads.0.vms.1.image", "/srv/vm")
    made = run_program(tables)
    machines = [name for name in made.made if name.endswith("-machine")]
    images = {name: stdin(made, name)["image"] for name in machines}
    own = {"lab-agent-1": "/srv/agents", "lab-agent-2": "/srv/agents", "lab-vm-2": "/srv/vm"}
    assert images == dict.fromkeys(machines, LAB["machines"]["image"]) | {f"{n}-machine": i for n, i in own.items()}
    assert all(image in made.made[name].inputs["triggers"] for name, image in images.items())


def test_arm64_is_chosen_on_the_machine_whatever_the_operator_has(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Recorder] = []
    for machine in ("x86_64", "arm64"):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        made.append(run_program(DEV, "dev"))
    told = [{name: args.inputs for name, args in recorder.made.items()} for recorder in made]
    assert told[0] == told[1]
    for text in (stdin(made[0], "dev-vm-1-machine")["user_data"], script(made[0], "dev-server-1-k3s")):
        assert 'case "$(uname -m)" in' in text
        assert "arm64" in text.partition("aarch64 | arm64)")[2].partition(";;")[0]


def read_requests(recorder: Recorder) -> list[str]:
    """Have every action read the request that the program makes for it; the names of these actions."""
    asked = {n: args.inputs["environment"][MARKER] for n, args in recorder.made.items() if "environment" in args.inputs}
    for name, action in asked.items():
        parse(ACTIONS[action].request, unwrapped(recorder.made[name].inputs["stdin"]))
    return sorted({*asked.values()})


def test_every_action_can_read_its_request(lab: Recorder) -> None:
    assert read_requests(lab) == [
        "cluster.install", "cluster.member", "machines.ensure", "machines.make-secrets", "mesh.gateway-addresses",
        "mesh.mesh-config", "mesh.reinject",
        "mesh.root-certificate", "samples.prove", "workloads.join",
    ]  # fmt: skip


def test_secrets_are_never_in_a_command(lab: Recorder) -> None:
    for args in lab.made.values():
        for key in ("create", "update", "delete", "environment"):
            text = json.dumps(args.inputs.get(key))
            assert not any(secret in text for secret in ("PRIVATE", "TOKEN", KUBECONFIG.strip())), args.name


def test_traefik_is_off_and_agents_know_the_server(lab: Recorder) -> None:
    server = script(lab, "lab-server-1-k3s")
    assert "- traefik" in server and "servicelb" not in server
    assert "server: https://10.89.0.11:6443" in script(lab, "lab-agent-1-k3s")


def test_gateway_ports_come_from_one_value() -> None:
    recorder = run_program(put(LAB, "mesh.eastWestPorts", {"istiod": 16012, "webhook": 16017, "services": 16443}))
    made = recorder.made
    ports = made["istio-eastwestgateway"].inputs["values"]["networkGatewayPorts"]
    assert {key: int(value["port"]) for key, value in ports.items()} == {
        "status-port": 15022,
        "tls": 16443,
        "tls-istiod": 16012,
        "tls-webhook": 16017,
    }
    gateway = made["istio-eastwestgateway-istiod-gateway"].inputs["spec"]
    service = made["istio-eastwestgateway-istiod-1-30-virtualservice"].inputs["spec"]
    assert [int(server["port"]["number"]) for server in gateway["servers"]] == [16012, 16017]
    assert [int(route["match"][0]["port"]) for route in service["tls"]] == [16012, 16017]
    assert stdin(recorder, "vm-1-join")["member"]["istiod_port"] == 16012


def test_chart_values_of_the_settings_win_and_the_rest_stays(lab: Recorder) -> None:
    istiod = lab.made["istiod-1-30"].inputs["values"]
    assert istiod["telemetry"] == {"enabled": False}
    assert istiod["env"]["PILOT_ENABLE_ALPN_FILTER"] == "false"
    assert istiod["global"]["multiCluster"] == {"clusterName": "cluster1"}
    assert istiod["revision"] == "1-30"


def test_charts_of_a_repository_name_version_and_repository() -> None:
    made = run_program(DEV, stack="dev").made
    release = made["istio-base"].inputs
    assert (release["chart"], release["version"]) == ("base", DEV["mesh"]["version"])
    assert release["repositoryOpts"]["repo"].startswith("https://blob.istio.io/")
    oci = put(DEV, "mesh.charts", {"repository": "oci://ghcr.io/istio/release/charts"})
    assert run_program(oci, stack="dev").made["istio-base"].inputs["chart"] == "oci://ghcr.io/istio/release/charts/base"


def test_the_member_is_told_what_the_gateway_got(lab: Recorder) -> None:
    join = stdin(lab, "vm-1-join")
    assert join["member"]["gateway_addresses"] == ["10.89.0.11", "10.89.0.12"]
    assert join["member"]["revision"] == "1-30"
    assert join["ssh"]["host_key"] == "ssh-ed25519 HOST"
    assert lab.made["vm-1-join"].inputs["delete"] == "actions/run workloads.leave"


def test_a_member_is_told_what_the_mesh_says_of_itself(lab: Recorder) -> None:
    member = stdin(lab, "vm-1-join")["member"]
    said = {
        "mesh_id": "mesh9",
        "trust_domain": "mesh.local",
        "mesh_proxy_config": {"proxyMetadata": {"SAID": "by the mesh"}},
    }
    assert {key: member[key] for key in said} == said


def test_the_mesh_is_read_again_when_istiod_is_installed_otherwise(lab: Recorder) -> None:
    before = stdin(lab, "mesh-config")
    other = stdin(run_program(put(LAB, "mesh.values.istiod.meshConfig.accessLogFile", "/dev/stdout")), "mesh-config")
    assert before["revision"] == "1-30"
    assert before["installed"] != other["installed"]
    assert {**before, "installed": ""} == {**other, "installed": ""}


@pytest.mark.parametrize("vm", ["vm-2", "vm-4"])
def test_the_join_document_is_what_the_command_line_reads(lab: Recorder, vm: str) -> None:
    from actions.protocol import parse
    from actions.workloads.join import JoinRequest

    parse(JoinRequest, json.dumps(stdin(lab, f"{vm}-join")))


def test_only_a_vm_of_the_meshs_own_network_gets_routes_to_every_nodes_pods(lab: Recorder) -> None:
    assert stdin(lab, "vm-4-join")["node_addresses"] == ["10.89.0.11"] * 3
    assert stdin(lab, "vm-1-join")["node_addresses"] == []


def test_a_member_has_the_labels_of_its_group_and_the_life_of_its_certificates(lab: Recorder) -> None:
    for vm, group, app, seconds in (
        ("vm-1", "vmns/external-app", "external-app", 86400),
        ("vm-4", "sample/helloworld-vm", "helloworld", 60),
    ):
        member = stdin(lab, f"{vm}-join")["member"]
        assert member["labels"] == {"app": app, "version": "vm"}
        assert lab.made[f"workloadgroup/{group}"].inputs["spec"]["metadata"] == {"labels": member["labels"]}
        assert member["certificate_seconds"] == seconds


def test_a_workload_without_a_version_has_no_such_label() -> None:
    tables = put(LAB, "workloads", [{key: value for key, value in LAB["workloads"][0].items() if key != "version"}])
    made = run_program({**tables, "traffic": []})
    assert stdin(made, "vm-1-join")["member"]["labels"] == {"app": "external-app"}


def test_the_service_of_vms_is_made_once(lab: Recorder) -> None:
    services = {name: args.inputs for name, args in lab.made.items() if args.typ == "kubernetes:core/v1:Service"}
    assert {name: service["spec"]["selector"]["app"] for name, service in services.items()} == {
        "service/vmns/external-app": "external-app",
        "service/sample/helloworld": "helloworld",
        "service/sample/helloworld-shift": "helloworld",
    }
    awaited = [name for name, service in services.items() if "annotations" not in service["metadata"]]
    assert awaited == ["service/sample/helloworld"], "the others may have VMs only, which the provider does not see"


def test_clients_are_inside_the_mesh_at_its_edge_and_outside(lab: Recorder) -> None:
    clients = {
        name: args.inputs
        for name, args in lab.made.items()
        if name.startswith("deployment/") and "sleep" in str(args.inputs)
    }
    seen = {
        name: (
            inputs["metadata"]["namespace"],
            inputs["spec"]["template"]["spec"]["containers"][0]["name"],
            "sidecar.istio.io/inject" not in inputs["spec"]["template"]["metadata"]["labels"],
        )
        for name, inputs in clients.items()
    }
    assert seen == {
        "deployment/sample/curl": ("sample", "curl", True),
        "deployment/sample/stranger": ("sample", "stranger", True),
        "deployment/sample-guarded/curl": ("sample-guarded", "curl", True),
        "deployment/sample-guarded/plain": ("sample-guarded", "plain", False),
        "deployment/sample-outside/plain": ("sample-outside", "plain", True),
    }
    for name, (namespace, app, _) in seen.items():
        account = lab.made[f"serviceaccount/{namespace}/{app}"].inputs["metadata"]
        assert (account["namespace"], account["name"]) == (namespace, app)
        assert clients[name]["spec"]["selector"] == {"matchLabels": {"app": app}}


def test_the_proof_document_is_what_the_command_line_reads(lab: Recorder) -> None:
    from actions.protocol import parse
    from actions.samples.proof import ProveRequest

    parse(ProveRequest, json.dumps(stdin(lab, "proof-calls")))


def test_a_member_that_joined_again_is_proven_again(lab: Recorder) -> None:
    assert lab.made["proof-calls"].inputs["triggers"] == ["now"] * 4


def without_samples() -> dict[str, Any]:
    """The lab's settings without samples, and without what refers to them."""
    tables = put(put(LAB, "samples.enabled", False), "mesh.exposedServices", [])
    return {**tables, "policies": {}, "traffic": []}


def test_without_samples_there_is_no_proof_and_no_sample() -> None:
    tables = without_samples()
    made = run_program({**tables, "workloads": tables["workloads"][:1]}).made
    assert not [name for name in made if "helloworld" in name or "proof" in name or name.startswith("deployment/")]
    assert not [name for name in made if name.startswith("namespace-sample")]


def test_without_samples_the_service_that_a_workload_shares_with_them_stays() -> None:
    service = run_program(without_samples()).made["service/sample/helloworld"].inputs
    assert (service["metadata"]["name"], service["spec"]["selector"]) == ("helloworld", {"app": "helloworld"})
    assert service["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}, "there is no pod to wait for"


def several(**cluster: Any) -> Recorder:
    tables = put(LAB, "cluster.servers.count", 3)
    return run_program({**tables, "cluster": tables["cluster"] | cluster})


def test_three_servers_have_embedded_etcd_and_join_each_other() -> None:
    recorder = several()
    for name in ("server-1", "server-2", "server-3"):
        text = script(recorder, f"lab-{name}-k3s")
        assert "settle" in text and 'until_ready "etcd"' in text
        assert text.count("https://10.89.0.11:6443") == 2 * 2 + 1, "the other two, asked and named; itself, asked"
        assert recorder.made[f"lab-{name}-k3s"].inputs["create"] == "actions/run cluster.begin"
        assert recorder.made[f"lab-{name}-k3s"].inputs["update"] == "actions/run cluster.install"
    assert "founder=yes" in script(recorder, "lab-server-1-k3s"), "it has the machine that the cluster began with"
    assert "founder= " in script(recorder, "lab-server-2-k3s")
    assert "server: https://10.89.0.11:6443" in script(recorder, "lab-agent-1-k3s")


def test_several_servers_are_a_cluster_that_outlives_each_of_them() -> None:
    made = several().made
    assert made["cluster-identity"].inputs["create"] == "echo lab-server-1-machine-id"
    assert made["cluster-kubernetes"].inputs["clusterIdentifier"] == "lab-server-1-machine-id"
    names = [server["name"] for server in stdin(several(), "lab-agent-1-node")["servers"]]
    assert names == ["lab-server-1", "lab-server-2", "lab-server-3"]


def test_a_single_server_is_the_cluster(lab: Recorder) -> None:
    assert unwrapped(lab.made["cluster-identity"].inputs["create"]) == "echo lab-server-1-machine-id"
    assert lab.made["cluster-kubernetes"].inputs["clusterIdentifier"] == "lab-server-1-machine-id"
    assert "settle" not in script(lab, "lab-server-1-k3s")


def test_the_node_document_is_what_the_command_line_reads(lab: Recorder) -> None:
    from actions.cluster.membership import NodeRequest
    from actions.protocol import parse

    assert parse(NodeRequest, json.dumps(stdin(lab, "lab-agent-1-node"))).node == "lab-agent-1"


def test_an_endpoint_is_where_clients_and_nodes_go() -> None:
    recorder = several(endpoint="k8s.example")
    assert "https://k8s.example:6443" in script(recorder, "lab-agent-1-k3s")
    second = script(recorder, "lab-server-2-k3s")
    assert "for peer in https://k8s.example:6443 https://10.89.0.11:6443 https://10.89.0.11:6443; do" in second
    assert "- k8s.example" in second
    kubeconfig = unwrapped(recorder.made["cluster-kubernetes"].inputs["kubeconfig"])
    assert kubeconfig == "server: https://k8s.example:6443\n"


def options(monkeypatch: pytest.MonkeyPatch, tables: dict[str, Any]) -> dict[str, pulumi.ResourceOptions]:
    """The options that every resource was made with; the mocks are not told of `protect`."""
    seen: dict[str, pulumi.Resource] = {}
    real = pulumi.Resource.__init__

    def init(self: pulumi.Resource, t: str, name: str, *args: Any, **kwargs: Any) -> None:
        real(self, t, name, *args, **kwargs)
        seen[name] = self

    monkeypatch.setattr(pulumi.Resource, "__init__", init)
    run_program(tables)
    return {name: made for name, made in seen.items() if made._protect}  # pyright: ignore[reportPrivateUsage]


MACHINES = {
    f"lab-{name}" for name in ("server-1", "server-2", "server-3", "agent-1", "agent-2", "vm-1", "vm-2", "vm-3", "vm-4")
}
CONTROL_PLANE = {
    "cluster-identity", "lab-server-1-node", "lab-server-2-node", "lab-server-3-node",
    "istio-namespace", "istio-base", "istiod-1-30",
}  # fmt: skip


@pytest.mark.parametrize(
    ("protection", "protected"),
    [
        ({}, set()),
        ({"machines": True}, MACHINES | {f"{name}-machine" for name in MACHINES}),
        ({"controlPlane": True}, CONTROL_PLANE),
    ],
)
def test_what_is_protected(monkeypatch: pytest.MonkeyPatch, protection: dict[str, bool], protected: set[str]) -> None:
    tables = put(put(LAB, "cluster.servers.count", 3), "protection", protection)
    assert set(options(monkeypatch, tables)) == protected


def test_a_missing_file_is_a_warning_in_a_preview_and_an_error_after() -> None:
    from components.settings import SettingsError

    tables = put(LAB, "machines.mounts.0.source", "/nowhere")
    for place, name in (("cluster.binary", "k3s"), ("cluster.tools", "t.tar"), ("mesh.sidecarPackage", "s.deb")):
        tables = put(tables, place, {"path": f"/nowhere/{name}"})
    tables["cluster"]["images"] = []
    assert run_program(tables, preview=True).made
    with pytest.raises(SettingsError, match="/nowhere/k3s"):
        run_program(tables, preview=False)
