"""`make status`: what is asked, what is made of the answers, and how it looks."""

import copy
import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rich.console import Console

from actions.kube import ApiCluster, KubeError, Ran
from actions.workloads import certificate
from actions.workloads.certificate import Certificate
from actions.workloads.files import ROOT_CERTIFICATE
from actions.workloads.vm import Vm, VmUnreachable
from ops.finding import Finding
from ops.objects import BUSY
from ops.status import look as looking
from ops.status import proxies, view, vms
from ops.status.look import look
from ops.status.model import Gateway, Istiod, Machine, Member, Node, NotKnown, Status, Workload
from ops.workspace import Stack
from tests.unit.ops.conftest import (
    GATEWAYS,
    ISTIO,
    ISTIOD_PODS,
    NAMES,
    Api,
    World,
    command,
    deployment,
    gateway,
    machine,
    urn,
)

FIRST, SECOND = NAMES.values()
ENDS = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=23, minutes=30)
IDENTITY = "spiffe://cluster.local/ns/vmns/sa/external-app"
SYNCED = dict.fromkeys(("CDS", "LDS", "EDS", "RDS"), "SYNCED")
BOTH = ["10.89.0.11", "10.89.0.12"]
MACHINES = {
    "lab-server-1": "10.89.0.11",
    "lab-agent-1": "10.89.0.12",
    "lab-vm-1": "10.89.0.14",
    "lab-vm-2": "10.89.1.10",
}
VERSION = "v1.32.0+k3s1"
SYSTEM, SAMPLE = "/api/v1/namespaces/istio-system", "/api/v1/namespaces/sample"

WELL = Status(
    stack="lab",
    machines=[Machine(name, address, "running") for name, address in MACHINES.items()],
    nodes=[Node(name, None, VERSION, VERSION) for name in ("lab-server-1", "lab-agent-1")],
    istiods=[Istiod("1-32", "1.32.0", 1, 1, ["default"])],
    gateways=[Gateway(name, BOTH, ports, BOTH, ports) for name, ports in GATEWAYS.items()],
    workloads=[Workload("vmns", "external-app", True, ["external-app"], 2, 2)],
    members=[Member(name, "vmns/external-app", entry, None, ENDS, SYNCED) for name, entry in NAMES.items()],
    findings=[],
)


@cache
def root(name: str) -> str:
    """A root certificate, another one for each name."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, ENDS - timedelta(days=9), ENDS)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def proxy(name: str, **fields: str) -> dict[str, str]:
    """What istiod's /debug/syncz has of a proxy that has taken over everything, but for `fields`."""
    nonces = {
        f"{kind}_{what}": "n1" for kind in ("cluster", "listener", "endpoint", "route") for what in ("sent", "acked")
    }
    return {"proxy": name, "cluster_id": "cluster1", **nonces, **fields}


def pod(namespace: str, name: str, *containers: str, revision: str = "1-32", ready: str = "True") -> dict[str, Any]:
    """A pod; with container `istio-proxy` it has a sidecar of that revision."""
    injected = {"sidecar.istio.io/status": json.dumps({"revision": revision})} if "istio-proxy" in containers else {}
    return {
        "metadata": {"name": name, "namespace": namespace, "annotations": injected},
        "spec": {"containers": [{"name": one} for one in containers]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready, "message": "it has begun"}]},
    }


def applied(api: Api, kind: str, plural: str, namespace: str, name: str, **inputs: Any) -> dict[str, Any]:
    """A resource of an object that the cluster has as it was applied; `kind` with its group and version."""
    version, _, word = kind.rpartition(":")
    version = version.removeprefix("core/")
    top = f"/apis/{version}" if "/" in version else f"/api/{version}"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **inputs.pop("metadata", {})}
    document = {"apiVersion": version, "kind": word, "metadata": metadata, **inputs}
    served = api.objects.setdefault(top, {"resources": []})["resources"]
    served.append({"name": plural, "kind": word, "namespaced": bool(namespace)})
    place = f"{top}/namespaces/{namespace}/{plural}" if namespace else f"{top}/{plural}"
    if namespace:
        api.objects.setdefault(place, {"items": []})["items"].append(copy.deepcopy(document))
    else:
        api.objects[f"{place}/{name}"] = copy.deepcopy(document)
    known = {"inputs": document, "outputs": copy.deepcopy(document)}
    identity = f"{namespace}/{name}" if namespace else name
    return {
        "urn": urn(f"kubernetes:{kind}", name),
        "type": f"kubernetes:{kind}",
        "custom": True,
        "id": identity,
        **known,
    }


class Lab:
    """A lab that is up and well, until a test changes it."""

    def __init__(self, api: Api, world: World, stack: Stack) -> None:
        self.api, self.world, self.stack = api, world, stack
        self.proxies = [
            proxy("lab-vm-1.vmns"),
            proxy("lab-vm-2.vmns"),
            proxy("curl-1.sample"),
            proxy("gw-1.istio-system"),
        ]
        self.syncz: Callable[[], Ran] = lambda: Ran(0, json.dumps(self.proxies), "")
        self.certificate: Callable[[Vm], Certificate | None] = lambda _: Certificate(1, ENDS, ENDS, IDENTITY)
        self.trusted: Callable[[str], str] = lambda _: root("mesh")
        self.commands: list[tuple[Any, ...]] = []
        self.further: list[dict[str, Any]] = []
        self.pending: list[dict[str, Any]] = []
        self.running(*MACHINES)
        for name in ("lab-server-1", "lab-agent-1"):
            api.node(name)
        for entry in (FIRST, SECOND):
            api.entry(entry)
        api.mesh()
        group = {"spec": {"metadata": {"labels": {"app": "external-app"}}}}
        label = {"labels": {"istio.io/rev": "1-32"}}
        self.objects = [
            applied(api, "core/v1:Namespace", "namespaces", "", "vmns", metadata=label),
            applied(api, "core/v1:Namespace", "namespaces", "", "sample", metadata=label),
            applied(api, "networking.istio.io/v1:WorkloadGroup", "workloadgroups", "vmns", "external-app", **group),
            applied(
                api, "core/v1:Service", "services", "vmns", "external-app", spec={"selector": {"app": "external-app"}}
            ),
        ]
        api.objects[f"{SAMPLE}/pods"] = {"items": [pod("sample", "curl-1", "curl", "istio-proxy")]}
        api.objects[f"{SYSTEM}/pods"] = {
            "items": [pod("istio-system", "gw-1", "istio-proxy"), pod("istio-system", "istiod-1", "discovery")]
        }
        api.objects[f"{SYSTEM}/configmaps/istio-ca-root-cert"] = {"data": {"root-cert.pem": root("mesh")}}
        api.objects[f"{SYSTEM}/configmaps/istio-1-32"] = {"data": {"mesh": "trustDomain: cluster.local\n"}}

    def running(self, *names: str) -> None:
        self.world.put("machines.list.json", [{"name": name, "state": "running"} for name in names])

    def run(self, *words: Any) -> Ran:
        self.commands.append(words)
        return self.syncz()

    @property
    def state(self) -> dict[str, Any]:
        read = [gateway(name, BOTH, **ports) for name, ports in GATEWAYS.items()]
        made = [machine(name) for name in MACHINES]
        return {**deployment(self.api, *read, *made, *self.objects, *self.further), "pending_operations": self.pending}

    def look(self) -> Status:
        return look(self.stack, self.state)


def on_vm(lab: Lab) -> Callable[..., str]:
    def run(vm: Vm, script: str, *_: Any, **__: Any) -> str:
        assert script == f"cat {ROOT_CERTIFICATE} 2>/dev/null || true"
        return lab.trusted(script)

    return run


@pytest.fixture
def lab(api: Api, world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(api, world, stack)
    monkeypatch.setattr(ApiCluster, "run", lambda _, *words: made.run(*words))
    monkeypatch.setattr(certificate, "read", lambda vm: made.certificate(vm))
    monkeypatch.setattr(Vm, "run", on_vm(made))
    monkeypatch.setattr(proxies, "TAKEN_OVER_SECONDS", 0.01)
    return made


# --------------------------------------------------------------------------------------------- asking


def test_everything_is_asked(lab: Lab) -> None:
    assert lab.look() == WELL
    assert WELL.healthy
    command = ("pilot-discovery", "request", "GET", "/debug/syncz")
    assert lab.commands == [("istio-system", "istiod-1", "discovery", command, proxies.SYNC_SECONDS)]


def test_everything_is_asked_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question waits until all others have been asked as well; `compare` and `uninjected` ask further ones, in pools of theirs."""
    together = threading.Barrier(len([*looking.ASKED, "pods", "driver", "orphans", "proxies", *NAMES]), timeout=10)
    states, orphans, read = looking.machines.states, looking.machines.orphans, lab.certificate

    def asked(answer: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*words: Any) -> Any:
            together.wait()
            return answer(*words)

        return ask

    class Asking(ApiCluster):
        """What `look` itself asks; not what others ask for it."""

        items = asked(ApiCluster.items)

    monkeypatch.setattr(looking, "ApiCluster", Asking)
    monkeypatch.setattr(looking.objects, "compare", lambda *_: looking.objects.Differences())
    monkeypatch.setattr(looking, "uninjected", lambda *_: [])
    monkeypatch.setattr(looking.machines, "states", asked(states))
    monkeypatch.setattr(looking.machines, "orphans", asked(orphans))
    lab.certificate = asked(read)
    assert lab.look() == WELL


def test_a_vm_is_asked_over_its_own_connection_and_not_for_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def connect(*target: Any, timeout: float) -> Any:
        seen.append((*target, timeout))
        raise vms.ssh.SshError("no route to host")

    monkeypatch.undo()
    monkeypatch.setattr(ApiCluster, "run", lambda _, *words: lab.run(*words))
    monkeypatch.setattr(vms.ssh, "connect", connect)
    first = lab.look().members[0]
    assert first.certificate_ends == NotKnown("10.89.0.14: no route to host")
    assert first.problem is None
    assert ("10.89.0.14", 22, "ubuntu", "PRIVATE", "ssh-ed25519 K", vms.CONNECT_SECONDS) in seen


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, SYNCED),
        ({"endpoint_acked": "n0"}, {**SYNCED, "EDS": "STALE"}),
        ({"listener_acked": ""}, {**SYNCED, "LDS": "STALE"}),
        ({"route_sent": "", "route_acked": ""}, {**SYNCED, "RDS": "NOT SENT"}),
    ],
)
def test_a_proxy_is_in_step_as_istioctl_has_it(lab: Lab, fields: dict[str, str], state: dict[str, str]) -> None:
    lab.proxies[1] = proxy("lab-vm-2.vmns", **fields)
    found = lab.look()
    assert [member.sync for member in found.members] == [SYNCED, state]
    assert found.healthy == ("STALE" not in state.values())


def test_what_is_out_of_step_for_a_moment_only_is_not_told(lab: Lab) -> None:
    late = proxy("lab-vm-2.vmns", listener_acked="n0")
    then = proxy("lab-vm-2.vmns", listener_sent="n2", listener_acked="n1")
    answers = iter([[*lab.proxies[:1], late, *lab.proxies[2:]], [*lab.proxies[:1], then, *lab.proxies[2:]]])
    lab.syncz = lambda: Ran(0, json.dumps(next(answers)), "")
    assert lab.look() == WELL, "it has taken over what it was late with, and been sent something else since"


def test_fields_that_istiod_leaves_out_were_not_sent(lab: Lab) -> None:
    lab.proxies[:2] = [{"proxy": "lab-vm-1.vmns"}]
    found = lab.look()
    assert [member.sync for member in found.members] == [dict.fromkeys(SYNCED, "NOT SENT"), {}]
    assert [(one.id, one.subject) for one in found.findings] == [
        ("proxy-not-synced", "VM lab-vm-1"),
        ("member-not-connected", "VM lab-vm-2"),
    ]


def test_proxies_of_every_running_istiod_count(lab: Lab) -> None:
    pods = lab.api.objects[ISTIOD_PODS]["items"]
    for name, phase in (("istiod-2", "Running"), ("istiod-3", "Pending")):
        metadata = {"name": name, "namespace": "istio-system", "labels": {"istio.io/rev": "1-32"}}
        pods.append({"metadata": metadata, "status": {"phase": phase}})
    answers = iter([lab.proxies[:1], lab.proxies[1:]])
    lab.syncz = lambda: Ran(0, json.dumps(next(answers)), "")
    assert lab.look() == WELL
    assert {words[1] for words in lab.commands} == {"istiod-1", "istiod-2"}


# --------------------------------------------------------------------------------------------- what does not answer


def raising(error: Exception) -> Callable[..., Any]:
    def ask(*_: Any) -> Any:
        raise error

    return ask


def unknown(status: Status) -> dict[str, str]:
    """Who could not be asked, and why: all that was found."""
    assert {one.id for one in status.findings} <= {"not-known"}
    return {one.subject: one.problem.removeprefix("cannot be asked: ") for one in status.findings}


def test_a_driver_that_does_not_answer_costs_the_machines_state(lab: Lab) -> None:
    lab.world.put("machines.list.error", "error: multipass does not answer")
    silent = NotKnown("multipass does not answer")
    found = lab.look()
    assert replace(found, findings=[]) == replace(WELL, machines=[replace(one, state=silent) for one in WELL.machines])
    assert unknown(found) == {"the machines' driver": "multipass does not answer"}


def test_a_vm_that_does_not_answer_costs_its_certificate(lab: Lab) -> None:
    lab.certificate = raising(VmUnreachable("10.89.1.10:22 cannot be\n  reached"))
    silent = NotKnown("10.89.1.10:22 cannot be reached")
    found = lab.look()
    members = [replace(one, certificate_ends=silent) for one in WELL.members]
    assert replace(found, findings=[]) == replace(WELL, members=members)
    assert unknown(found) == {"VM lab-vm-1": "10.89.1.10:22 cannot be reached"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (raising(KubeError("no rights")), "no rights"),
        (
            lambda: Ran(0, "404 page not found\n", ""),
            "pod istiod-1 does not tell of its proxies; it says: 404 page not found",
        ),
        (lambda: Ran(1, "", "boom"), "pod istiod-1 does not tell of its proxies; it says: boom"),
    ],
)
def test_an_istiod_that_does_not_answer_costs_the_sync_state(lab: Lab, answer: Callable[[], Ran], why: str) -> None:
    lab.syncz = answer
    found = lab.look()
    members = [replace(one, sync=NotKnown(why)) for one in WELL.members]
    assert replace(found, findings=[]) == replace(WELL, members=members)
    assert unknown(found) == {"istiod": why}


def test_without_a_cluster_machines_and_certificates_are_left(lab: Lab) -> None:
    lab.api.url = "http://127.0.0.1:9"
    found = lab.look()
    assert isinstance(found.nodes, NotKnown)
    away = found.nodes
    assert "http://127.0.0.1:9 does not answer" in away.not_known
    members = [replace(one, problem=away, sync=away) for one in WELL.members]
    expected = replace(WELL, nodes=away, istiods=away, gateways=away, workloads=away, members=members)
    assert replace(found, findings=[]) == expected
    assert unknown(found) == {"the cluster": away.not_known}


# --------------------------------------------------------------------------------------------- what is not well


def stopped(lab: Lab) -> None:
    lab.running(*(name for name in MACHINES if name != "lab-vm-2"))


def orphan(lab: Lab) -> None:
    lab.running(*MACHINES, "lab-vm-9")


def not_in_the_cluster(lab: Lab) -> None:
    lab.api.objects["/api/v1/nodes"]["items"].pop()


def one_node_more(lab: Lab) -> None:
    lab.api.node("lab-agent-9")


def another_k3s(lab: Lab) -> None:
    lab.api.objects["/api/v1/nodes"]["items"][1]["status"]["nodeInfo"]["kubeletVersion"] = "v1.31.9+k3s1"


def no_istiod(lab: Lab) -> None:
    deployments(lab)[0]["status"] = {}


def deployments(lab: Lab) -> list[dict[str, Any]]:
    return lab.api.objects["/apis/apps/v1/deployments?labelSelector=app=istiod"]["items"]


def two_istiods(lab: Lab) -> None:
    other = copy.deepcopy(deployments(lab)[0])
    other["metadata"]["labels"] = {"istio.io/rev": "1-30"}
    deployments(lab).append(other)


def connected_to_another_revision(lab: Lab) -> None:
    lab.api.objects[ISTIOD_PODS]["items"][0]["metadata"]["labels"] = {"istio.io/rev": "1-30"}


def moved(lab: Lab) -> None:
    ports = [{"name": "http2", "port": 80}]
    lab.api.service("istio-system", "istio-ingressgateway", "10.89.0.13", ports=ports)


def homeless(lab: Lab) -> None:
    lab.api.service("istio-system", "istio-ingressgateway", ports=[{"name": "http2", "port": 80}])


def other_ports(lab: Lab) -> None:
    lab.api.service("istio-system", "istio-ingressgateway", *BOTH, ports=[{"name": "http2", "port": 81}])


def no_group(lab: Lab) -> None:
    lab.api.objects[f"{ISTIO}/namespaces/vmns/workloadgroups"]["items"] = []
    del lab.api.objects[f"{ISTIO}/workloadgroups"]


def no_service(lab: Lab) -> None:
    lab.api.objects["/api/v1/namespaces/vmns/services"]["items"] = []


def half_a_release(lab: Lab) -> None:
    kind = "kubernetes:helm.sh/v3:Release"
    made = {"resourceNames": {"Service/v1": ["vmns/external-app", "vmns/gone"]}, "namespace": "vmns", "name": "a"}
    release = {"urn": urn(kind, "a"), "type": kind, "custom": True, "id": "vmns/a", "inputs": {}, "outputs": made}
    lab.further.append(release)


def a_release_left_pending(lab: Lab) -> None:
    half_a_release(lab)
    lab.further[-1]["outputs"]["resourceNames"] = {}
    record = {"metadata": {"namespace": "vmns", "name": "r", "labels": {"name": "a", "status": "pending-upgrade"}}}
    lab.api.objects[f"/api/v1/namespaces/vmns/secrets?labelSelector=owner=helm,status in ({BUSY})"] = {
        "items": [record]
    }


def relabelled(lab: Lab) -> None:
    lab.api.objects["/api/v1/namespaces/sample"]["metadata"]["labels"] = {}


def another_trust_domain(lab: Lab) -> None:
    lab.api.objects[f"{SYSTEM}/configmaps/istio-1-32"] = {"data": {"mesh": "trustDomain: other.local"}}


def another_root(lab: Lab) -> None:
    lab.trusted = lambda _: root("other")


def ended(lab: Lab) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    lab.certificate = lambda _: Certificate(1, past, past, IDENTITY)


def somebody_elses(lab: Lab) -> None:
    lab.certificate = lambda _: Certificate(1, ENDS, ENDS, "spiffe://other.local/ns/vmns/sa/external-app")


def sick(lab: Lab) -> None:
    lab.api.entry(SECOND, healthy="False", message="connection refused")


def unreported(lab: Lab) -> None:
    lab.api.entry(SECOND, healthy="Unknown")


def no_entry(lab: Lab) -> None:
    lab.api.objects[f"{ISTIO}/workloadentries"]["items"].pop()


def no_connection(lab: Lab) -> None:
    """Its entry is of before and says that all is well."""
    lab.proxies.pop(1)


def refusing(lab: Lab) -> None:
    lab.proxies[1] = proxy("lab-vm-2.vmns", listener_acked="n0")


def sample_pods(lab: Lab, *pods: dict[str, Any]) -> None:
    lab.api.objects[f"{SAMPLE}/pods"] = {"items": list(pods)}


def bare(lab: Lab) -> None:
    sample_pods(lab, pod("sample", "curl-1", "curl"))


def bare_and_made_anew(lab: Lab) -> None:
    bare(lab)
    owner = {"kind": "StatefulSet", "name": "db", "controller": True}
    lab.api.objects[f"{SAMPLE}/pods"]["items"][0]["metadata"]["ownerReferences"] = [owner]


def of_another_revision(lab: Lab) -> None:
    sample_pods(lab, pod("sample", "curl-1", "curl", "istio-proxy", revision="1-30"))


def unready(lab: Lab) -> None:
    sample_pods(lab, pod("sample", "curl-1", "curl", "istio-proxy", ready="False"))


def unconnected(lab: Lab) -> None:
    lab.proxies.pop(2)


def an_entry_more(lab: Lab) -> None:
    lab.api.entry("external-app-10.89.1.99-vm-network")
    entry = lab.api.objects[f"{ISTIO}/workloadentries"]["items"][-1]
    entry["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "external-app"


def a_group_more(lab: Lab) -> None:
    groups = lab.api.objects[f"{ISTIO}/workloadgroups"]["items"]
    groups.append({"metadata": {"name": "old-app", "namespace": "vmns"}, "spec": {}})


def cut_off(lab: Lab) -> None:
    lab.pending.append({"type": "creating", "resource": command("vm-3-join", "a.b", {})})


HARMS: list[tuple[Callable[[Lab], None], list[tuple[str, str]], str]] = [
    (stopped, [("machine-not-running", "machine lab-vm-2 is gone")], "make up STACK=lab"),
    (orphan, [("machine-of-nobody", "machine lab-vm-9 is the stack's by its driver")], "make up STACK=lab"),
    (not_in_the_cluster, [("node-not-ready", "node lab-agent-1 is not in the cluster")], "make up"),
    (one_node_more, [("node-of-nobody", "node lab-agent-9 is none of")], "kubectl delete node lab-agent-9"),
    (another_k3s, [("node-version", "node lab-agent-1 runs v1.31.9+k3s1, the settings say v1.32.0")], "VM=agent-1"),
    (no_istiod, [("istiod-not-ready", "istiod of revision 1-32 has 0 of 1 pods ready")], "describe pods -l app=istiod"),
    (two_istiods, [("istiod-of-nobody", "istiod of revision 1-30 is installed besides 1-32")], "uninstall istiod-1-30"),
    (
        connected_to_another_revision,
        [
            ("proxy-of-other-revision", f"{one} is connected to istiod of revision 1-30, the settings say 1-32")
            for one in ("pod sample/curl-1", "pod istio-system/gw-1", "VM lab-vm-1", "VM lab-vm-2")
        ],
        "",
    ),
    (
        moved,
        [("gateway-moved", "gateway istio-ingressgateway has moved from 10.89.0.11, 10.89.0.12 to 10.8")],
        "make up",
    ),
    (homeless, [("gateway-without-address", "gateway istio-ingressgateway has no address")], "enablelb"),
    (
        other_ports,
        [("gateway-ports", "gateway istio-ingressgateway has other ports: http2 should be 80 and is 81")],
        "edit",
    ),
    (no_group, [("object-gone", "WorkloadGroup vmns/external-app is gone from the cluster")], "make up STACK=lab"),
    (no_service, [("object-gone", "Service vmns/external-app is gone from the cluster")], "make up STACK=lab"),
    (half_a_release, [("release-incomplete", "Helm release a lacks Service vmns/gone")], "make up STACK=lab"),
    (a_release_left_pending, [("release-unfinished", "Helm release a was left pending-upgrade")], "make up STACK=lab"),
    (relabelled, [("object-changed", "Namespace sample was changed in the cluster: metadata.labels")], "make up"),
    (
        another_trust_domain,
        [("trust-domain", "the mesh has trust domain other.local, the settings say cluster.l")],
        "edit",
    ),
    (
        another_root,
        [("member-root", f"VM {name} does not trust the mesh's root") for name in NAMES],
        "make up STACK=lab",
    ),
    (ended, [("member-certificate", f"VM {name} has a certificate that ended") for name in NAMES], "make rejoin"),
    (
        somebody_elses,
        [("member-identity", f"VM {name} has a certificate of spiffe://oth") for name in NAMES],
        "make rejoin",
    ),
    (sick, [("member-unhealthy", "VM lab-vm-2 is not healthy: connection refused")], "make ssh STACK=lab VM=vm-2"),
    (no_entry, [("member-not-connected", "VM lab-vm-2 is no member of the mesh: no WorkloadEntry")], "VM=vm-2"),
    (
        no_connection,
        [("member-not-connected", "VM lab-vm-2 is connected to no istiod")],
        "make rejoin STACK=lab VM=vm-2",
    ),
    (refusing, [("proxy-not-synced", "VM lab-vm-2 has not taken over what istiod sent: LDS")], "make rejoin"),
    (bare, [("pod-without-sidecar", "pod sample/curl-1 has no sidecar")], "kubectl -n sample delete pod curl-1"),
    (
        bare_and_made_anew,
        [("pod-without-sidecar", "pod sample/curl-1 has no sidecar")],
        "`make up STACK=lab` restarts StatefulSet sample/db",
    ),
    (of_another_revision, [("pod-without-sidecar", "pod sample/curl-1 has a sidecar of revision 1-30")], "delete pod"),
    (unreported, [("member-unhealthy", "VM lab-vm-2 is not healthy: no health report yet")], "make rejoin"),
    (unready, [("pod-not-ready", "pod sample/curl-1 is not Ready: it has begun")], "describe pod curl-1"),
    (
        unconnected,
        [("proxy-not-connected", "pod sample/curl-1 has a proxy that is connected to no ist")],
        "delete pod curl-1",
    ),
    (
        an_entry_more,
        [("entry-of-nobody", "WorkloadEntry vmns/external-app-10.89.1.99-vm-network is of no")],
        "delete workloadentry",
    ),
    (
        a_group_more,
        [("group-of-nobody", "WorkloadGroup vmns/old-app is not in the stack")],
        "delete workloadgroup old-app",
    ),
    (cut_off, [("operation-pending", "an earlier run was cut off while it worked on vm-3-join")], "make up STACK=lab"),
]


@pytest.mark.parametrize(("harm", "expected", "help_"), HARMS, ids=[harm.__name__ for harm, *_ in HARMS])
def test_what_is_not_well_is_found_once_and_nothing_else_is(
    lab: Lab, harm: Callable[[Lab], None], expected: list[tuple[str, str]], help_: str
) -> None:
    harm(lab)
    found = lab.look()
    assert [one.id for one in found.findings] == [kind for kind, _ in expected]
    for finding, (_, begin) in zip(found.findings, expected, strict=True):
        assert str(finding).startswith(begin)
        assert help_ in finding.what_to_do
    assert not found.healthy


@pytest.mark.parametrize(
    ("harm", "part", "row"),
    [
        (stopped, "machines", Machine("lab-vm-2", "10.89.1.10", "gone")),
        (not_in_the_cluster, "nodes", Node("lab-agent-1", "is not in the cluster", "", VERSION)),
        (one_node_more, "nodes", Node("lab-agent-9", None, VERSION, VERSION, ours=False)),
        (no_istiod, "istiods", Istiod("1-32", "1.32.0", 0, 1, ["default"])),
        (two_istiods, "istiods", Istiod("1-30", "1.32.0", 1, 1, ["old"], ours=False)),
        (moved, "gateways", Gateway("istio-ingressgateway", ["10.89.0.13"], {"http2": 80}, BOTH, {"http2": 80})),
        (homeless, "gateways", Gateway("istio-ingressgateway", [], {"http2": 80}, BOTH, {"http2": 80})),
        (no_group, "workloads", Workload("vmns", "external-app", False, [], 2, 2)),
        (sick, "workloads", Workload("vmns", "external-app", True, ["external-app"], 1, 2)),
        (sick, "members", Member("lab-vm-2", "vmns/external-app", SECOND, "connection refused", ENDS, SYNCED)),
    ],
)
def test_what_is_not_well_is_marked_in_its_table(lab: Lab, harm: Callable[[Lab], None], part: str, row: Any) -> None:
    harm(lab)
    assert row in getattr(lab.look(), part)
    assert not row.well


def test_pods_that_end_or_have_ended_and_namespaces_of_others_do_not_count(lab: Lab) -> None:
    going, done = pod("sample", "curl-1", "curl", ready="False"), pod("sample", "job-1", "job", ready="False")
    going["metadata"]["deletionTimestamp"] = "now"
    done["status"]["phase"] = "Succeeded"
    sample_pods(lab, going, done, pod("sample", "plain-1", "plain"))
    lab.api.objects[f"{SAMPLE}/pods"]["items"][2]["metadata"]["labels"] = {"sidecar.istio.io/inject": "false"}
    lab.api.objects["/api/v1/namespaces/theirs/pods"] = {"items": [pod("theirs", "theirs-1", "theirs", ready="False")]}
    groups = lab.api.objects[f"{ISTIO}/workloadgroups"]["items"]
    groups.append({"metadata": {"name": "theirs", "namespace": "theirs"}, "spec": {}})
    assert lab.look().findings == []


def test_existing_hosts_are_nobodys_to_judge(lab: Lab) -> None:
    (lab.world.project / "Pulumi.lab.yaml").write_text("config:\n  istio-vms:machines: {driver: existing}\n")
    found = look(lab.stack, deployment(lab.api))
    assert {one.state for one in found.machines} == {"existing"}
    assert all(one.well for one in found.machines)
    assert lab.world.requests("machines.list") == []


def test_a_revision_that_should_have_no_pods_is_well() -> None:
    assert Istiod("1-30", "1.30.0", 0, 0, []).well


# --------------------------------------------------------------------------------------------- showing

NOW = ENDS - timedelta(hours=23, minutes=10)
AT_80 = """
stack lab: all is well

  machine       address     state
  lab-server-1  10.89.0.11  running
  lab-agent-1   10.89.0.12  running
  lab-vm-1      10.89.0.14  running
  lab-vm-2      10.89.1.10  running

  node          state  version
  lab-server-1  Ready  v1.32.0+k3s1
  lab-agent-1   Ready  v1.32.0+k3s1

  istiod  pods ready  version  tags
  1-32    1/1         1.32.0   default

  gateway                addresses   ports
  istio-eastwestgateway  10.89.0.11  status-port 15022, tls 15443, tls-istiod
                         10.89.0.12  15013
  istio-ingressgateway   10.89.0.11  http2 80
                         10.89.0.12

  workload           Services      healthy VMs
  vmns/external-app  external-app  2/2

  VM        workload           health   certificate   proxy
  lab-vm-1  vmns/external-app  healthy  ends in 23 h  SYNCED
  lab-vm-2  vmns/external-app  healthy  ends in 23 h  SYNCED
"""


def shown(status: Status, width: int = 80) -> str:
    out = io.StringIO()
    view.show(status, NOW, Console(file=out, width=width, soft_wrap=True))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def words(status: Status) -> str:
    return " ".join(shown(status, 250).split())


def test_all_well_at_80_columns() -> None:
    assert shown(WELL) == AT_80


def test_what_is_not_well_is_seen_in_the_tables_and_told_below_with_what_to_do() -> None:
    harmed = replace(
        WELL,
        machines=[Machine("lab-vm-1", "10.89.0.14", "stopped")],
        nodes=[
            Node("lab-agent-1", "is not Ready: Kubelet [stopped]", "v1"),
            Node("lab-agent-9", None, "v1", ours=False),
        ],
        gateways=[Gateway("none", [], {"http2": 80}, BOTH, {})],
        workloads=[Workload("vmns", "a", False, [], 0, 1)],
        members=[Member("lab-vm-1", "vmns/a", "e", "connection refused", None, {})],
        findings=[
            Finding("a", "VM lab-vm-1", "is [not] well", "start [it]"),
            Finding("b", "the mesh", "is old", "wait"),
        ],
    )
    text = words(harmed)
    assert "stack lab: 2 findings, see below" in text
    for part in (
        "10.89.0.14 stopped",
        "lab-agent-1 is not Ready: Kubelet [stopped] v1",
        "lab-agent-9 not the stack's v1",
        "none none http2 80 workload",
        "vmns/a its WorkloadGroup is gone",
        "not healthy: connection refused none not connected",
    ):
        assert part in text
    assert text.endswith("VM lab-vm-1 is [not] well → start [it] the mesh is old → wait")


def test_what_is_not_known_is_no_guess() -> None:
    away = NotKnown("the cluster's API does not answer")
    member = replace(WELL.members[0], problem=away, certificate_ends=NotKnown("no [route]"), sync=away)
    text = words(replace(WELL, nodes=away, members=[member]))
    assert "node not known istiod" in text
    assert "lab-vm-1 vmns/external-app not known not known not known" in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    member = Member("lab-vm-1", "vmns/external-app", FIRST, "connection refused " * 9, ENDS, SYNCED)
    long = Finding("id", "VM lab-vm-1", "is not healthy: " + "connection refused " * 9, "start it " * 20)
    text = shown(replace(WELL, members=[member], findings=[long]), width)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("left", "text"),
    [
        ({"days": 3}, "ends in 3 d"),
        ({"hours": 47, "minutes": 59}, "ends in 47 h"),
        ({"minutes": 119}, "ends in 119 min"),
        ({"seconds": 41}, "ends in 41 s"),
        ({"minutes": -5}, "ended 5 min ago"),
    ],
)
def test_a_certificate_ends_in_a_unit_that_tells(left: dict[str, int], text: str) -> None:
    member = replace(WELL.members[0], certificate_ends=NOW + timedelta(**left))
    assert f" {text} " in words(replace(WELL, members=[member]))


@pytest.mark.parametrize(
    ("sync", "text"),
    [
        (SYNCED, "SYNCED"),
        ({**SYNCED, "RDS": "NOT SENT"}, "SYNCED"),
        ({**SYNCED, "CDS": "STALE", "EDS": "STALE"}, "STALE: CDS, EDS"),
        (dict.fromkeys(SYNCED, "NOT SENT"), "NOT SENT"),
        ({}, "not connected"),
    ],
)
def test_a_proxy_shows_what_is_out_of_step(sync: dict[str, str], text: str) -> None:
    assert words(replace(WELL, members=[replace(WELL.members[0], sync=sync)])).endswith(f" 23 h {text}")


def test_json_has_every_field() -> None:
    member = replace(WELL.members[0], sync=NotKnown("why"))
    sick = replace(WELL, nodes=NotKnown("away"), members=[member], findings=[Finding("id", "VM a", "is b", "do c")])
    document = json.loads(view.as_json(sick))
    assert document["healthy"] is False
    assert document["findings"] == [{"id": "id", "subject": "VM a", "problem": "is b", "what_to_do": "do c"}]
    assert document["nodes"] == {"not_known": "away"}
    assert document["machines"][0] == {"name": "lab-server-1", "address": "10.89.0.11", "state": "running"}
    assert document["gateways"][1] == {
        "name": "istio-ingressgateway", "addresses": BOTH, "ports": {"http2": 80}, "recorded": BOTH, "wanted": {"http2": 80},
    }  # fmt: skip
    assert document["members"] == [
        {
            "name": "lab-vm-1", "workload": "vmns/external-app", "entry": FIRST, "problem": None,
            "certificate_ends": ENDS.isoformat(), "sync": {"not_known": "why"},
        }
    ]  # fmt: skip
