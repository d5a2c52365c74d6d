"""`make status`: what is asked, what is made of the answers, and how it looks."""

import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from components.kube import ApiCluster, KubeError, Ran
from components.workloads import certificate
from components.workloads.certificate import Certificate
from components.workloads.vm import Vm, VmUnreachable
from ops.status import look as looking
from ops.status import view
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
    deployment,
    gateway,
    machine,
)  # fmt: skip

FIRST, SECOND = NAMES.values()
ENDS = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SYNCED = dict.fromkeys(("CDS", "LDS", "EDS", "RDS"), "SYNCED")
BOTH = ["10.89.0.11", "10.89.0.12"]
MACHINES = {
    "lab-server-1": "10.89.0.11",
    "lab-agent-1": "10.89.0.12",
    "lab-vm-1": "10.89.0.14",
    "lab-vm-2": "10.89.1.10",
}

WELL = Status(
    stack="lab",
    machines=[Machine(name, address, "running") for name, address in MACHINES.items()],
    nodes=[Node(name, None, "v1.32.0+k3s1") for name in ("lab-server-1", "lab-agent-1")],
    istiods=[Istiod("1-32", "1.32.0", 1, 1, ["default"])],
    gateways=[Gateway(name, BOTH, ports, BOTH) for name, ports in GATEWAYS.items()],
    workloads=[Workload("vmns", "external-app", True, ["external-app"], 2, 2)],
    members=[Member(name, "vmns/external-app", entry, None, ENDS, SYNCED) for name, entry in NAMES.items()],
)


def proxy(name: str, **fields: str) -> dict[str, str]:
    """What istiod's /debug/syncz has of a proxy that has taken over everything, but for `fields`."""
    nonces = {
        f"{kind}_{what}": "n1" for kind in ("cluster", "listener", "endpoint", "route") for what in ("sent", "acked")
    }
    return {"proxy": name, "cluster_id": "cluster1", **nonces, **fields}


class Lab:
    """A lab that is up and well, until a test changes it."""

    def __init__(self, api: Api, world: World, stack: Stack) -> None:
        self.api, self.world, self.stack = api, world, stack
        self.proxies = [proxy("lab-vm-1.vmns"), proxy("lab-vm-2.vmns"), proxy("curl-1.sample")]
        self.syncz: Callable[[], Ran] = lambda: Ran(0, json.dumps(self.proxies), "")
        self.certificate: Callable[[Vm], Certificate | None] = lambda _: Certificate(1, ENDS, ENDS, "spiffe://x")
        self.commands: list[tuple[Any, ...]] = []
        self.running(*MACHINES)
        for name in ("lab-server-1", "lab-agent-1"):
            api.node(name)
        for entry in (FIRST, SECOND):
            api.entry(entry)
        api.mesh()

    def running(self, *names: str) -> None:
        self.world.put("machines.list.json", [{"name": name, "state": "running"} for name in names])

    def run(self, *words: Any) -> Ran:
        self.commands.append(words)
        return self.syncz()

    @property
    def state(self) -> dict[str, Any]:
        read = [gateway(name, BOTH, **ports) for name, ports in GATEWAYS.items()]
        return deployment(self.api, *read, *(machine(name) for name in MACHINES))

    def look(self) -> Status:
        return look(self.stack, self.state)


@pytest.fixture
def lab(api: Api, world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(api, world, stack)
    monkeypatch.setattr(ApiCluster, "run", lambda _, *words: made.run(*words))
    monkeypatch.setattr(certificate, "read", lambda vm: made.certificate(vm))
    return made


# --------------------------------------------------------------------------------------------- asking


def test_everything_is_asked(lab: Lab) -> None:
    assert lab.look() == WELL
    assert WELL.healthy
    assert WELL.not_known == []
    command = ("pilot-discovery", "request", "GET", "/debug/syncz")
    assert lab.commands == [("istio-system", "istiod-1", "discovery", command, looking.SYNC_SECONDS)]


def test_everything_is_asked_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question waits until all others have been asked as well."""
    together = threading.Barrier(len(looking.ASKED) + len(["driver", "proxies", *NAMES]), timeout=10)
    items, states, read = ApiCluster.items, looking.machines.states, lab.certificate

    def asked(answer: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*words: Any) -> Any:
            together.wait()
            return answer(*words)

        return ask

    monkeypatch.setattr(ApiCluster, "items", asked(items))
    monkeypatch.setattr(looking.machines, "states", asked(states))
    lab.certificate = asked(read)
    assert lab.look() == WELL


def test_a_vm_is_asked_over_its_own_connection_and_not_for_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def connect(*target: Any, timeout: float) -> Any:
        seen.append((*target, timeout))
        raise looking.ssh.SshError("no route to host")

    monkeypatch.setattr(looking.ssh, "connect", connect)
    lab.certificate = lambda vm: vm.ask("certificate") and None
    first = lab.look().members[0]
    assert first.certificate_ends == NotKnown("10.89.0.14: no route to host")
    assert first.problem is None
    assert ("10.89.0.14", 22, "ubuntu", "PRIVATE", "ssh-ed25519 K", looking.CONNECT_SECONDS) in seen


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
    assert found.healthy


def test_fields_that_istiod_leaves_out_were_not_sent(lab: Lab) -> None:
    lab.proxies[:2] = [{"proxy": "lab-vm-1.vmns"}]
    assert [member.sync for member in lab.look().members] == [dict.fromkeys(SYNCED, "NOT SENT"), {}]


def test_proxies_of_every_running_istiod_count(lab: Lab) -> None:
    pods = lab.api.objects[ISTIOD_PODS]["items"]
    for name, phase in (("istiod-2", "Running"), ("istiod-3", "Pending")):
        pods.append({"metadata": {"name": name, "namespace": "istio-system"}, "status": {"phase": phase}})
    answers = iter([[lab.proxies[0]], [lab.proxies[1]]])
    lab.syncz = lambda: Ran(0, json.dumps(next(answers)), "")
    assert [member.sync for member in lab.look().members] == [SYNCED, SYNCED]
    assert [words[1] for words in lab.commands] == ["istiod-1", "istiod-2"]


# --------------------------------------------------------------------------------------------- what does not answer


def test_a_driver_that_does_not_answer_costs_the_machines_state(lab: Lab) -> None:
    lab.world.put("machines.list.error", "error: multipass does not answer")
    unknown = NotKnown("multipass does not answer")
    assert lab.look() == replace(WELL, machines=[replace(one, state=unknown) for one in WELL.machines])


def raising(error: Exception) -> Callable[..., Any]:
    def ask(*_: Any) -> Any:
        raise error

    return ask


def test_a_vm_that_does_not_answer_costs_its_certificate(lab: Lab) -> None:
    lab.certificate = raising(VmUnreachable("10.89.1.10:22 cannot be\n  reached"))
    unknown = NotKnown("10.89.1.10:22 cannot be reached")
    found = lab.look()
    assert found == replace(WELL, members=[replace(one, certificate_ends=unknown) for one in WELL.members])
    assert found.not_known == ["10.89.1.10:22 cannot be reached"]
    assert found.healthy


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
    assert lab.look() == replace(WELL, members=[replace(one, sync=NotKnown(why)) for one in WELL.members])


def test_without_a_cluster_machines_and_certificates_are_left(lab: Lab) -> None:
    lab.api.url = "http://127.0.0.1:9"
    found = lab.look()
    assert isinstance(found.nodes, NotKnown)
    unknown = found.nodes
    assert "http://127.0.0.1:9 does not answer" in unknown.not_known
    members = [replace(one, problem=unknown, sync=unknown) for one in WELL.members]
    assert found == replace(WELL, nodes=unknown, istiods=unknown, gateways=unknown, workloads=unknown, members=members)
    assert not found.healthy
    assert found.not_known == [unknown.not_known]


# --------------------------------------------------------------------------------------------- what is not well


def stopped(lab: Lab) -> None:
    lab.running(*(name for name in MACHINES if name != "lab-vm-2"))


def not_ready(lab: Lab) -> None:
    lab.api.objects["/api/v1/nodes"]["items"].pop()


def no_istiod(lab: Lab) -> None:
    path = "/apis/apps/v1/deployments?labelSelector=app=istiod"
    lab.api.objects[path]["items"][0]["status"] = {}


def moved(lab: Lab) -> None:
    lab.api.service("istio-system", "istio-ingressgateway", "10.89.0.13", ports=[])


def homeless(lab: Lab) -> None:
    lab.api.service("istio-system", "istio-ingressgateway")


def no_group(lab: Lab) -> None:
    del lab.api.objects[f"{ISTIO}/workloadgroups"]


def sick(lab: Lab) -> None:
    lab.api.entry(SECOND, healthy="False", message="connection refused")


@pytest.mark.parametrize(
    ("harm", "part", "row"),
    [
        (stopped, "machines", Machine("lab-vm-2", "10.89.1.10", "gone")),
        (not_ready, "nodes", Node("lab-agent-1", "it is not in the cluster", "")),
        (no_istiod, "istiods", Istiod("1-32", "1.32.0", 0, 1, ["default"])),
        (moved, "gateways", Gateway("istio-ingressgateway", ["10.89.0.13"], {}, BOTH)),
        (homeless, "gateways", Gateway("istio-ingressgateway", [], {}, BOTH)),
        (no_group, "workloads", Workload("vmns", "external-app", False, [], 2, 2)),
        (sick, "workloads", Workload("vmns", "external-app", True, ["external-app"], 1, 2)),
        (sick, "members", Member("lab-vm-2", "vmns/external-app", SECOND, "connection refused", ENDS, SYNCED)),
    ],
)
def test_what_is_not_well_is_found(lab: Lab, harm: Callable[[Lab], None], part: str, row: Any) -> None:
    harm(lab)
    found = lab.look()
    assert row in getattr(found, part)
    assert not row.well
    assert not found.healthy


def test_existing_hosts_are_nobodys_to_judge(lab: Lab) -> None:
    found = look(lab.stack, deployment(lab.api))
    assert {one.state for one in found.machines} == {"existing"}
    assert all(one.well for one in found.machines)
    assert lab.world.modules("machines", "list") == []


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


def test_what_is_not_well_says_why() -> None:
    harmed = replace(
        WELL,
        machines=[Machine("lab-vm-1", "10.89.0.14", "stopped")],
        nodes=[Node("lab-agent-1", "Kubelet [stopped]", "v1")],
        gateways=[Gateway("ingress", ["10.89.0.13"], {"http2": 80}, BOTH), Gateway("none", [], {}, BOTH)],
        workloads=[Workload("vmns", "a", False, [], 0, 1)],
        members=[Member("lab-vm-1", "vmns/a", "e", "connection refused", None, {})],
    )
    text = words(harmed)
    assert "stack lab: not all is well" in text
    for part in (
        "10.89.0.14 stopped",
        "lab-agent-1 not Ready: Kubelet [stopped] v1",
        "http2 80 moved from 10.89.0.11, 10.89.0.12; `make up` follows",
        "none none workload",
        "vmns/a its WorkloadGroup is gone",
        "not healthy: connection refused none not connected",
    ):
        assert part in text


def test_what_is_not_known_says_why_once() -> None:
    away = NotKnown("the cluster's API does not answer")
    member = replace(WELL.members[0], problem=away, certificate_ends=NotKnown("no [route]"), sync=away)
    text = words(replace(WELL, nodes=away, members=[member]))
    assert "node not known istiod" in text
    assert "lab-vm-1 vmns/external-app not known not known not known" in text
    assert text.endswith("not known, as: the cluster's API does not answer no [route]")


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    long = NotKnown("the machine does not answer " * 9)
    member = Member("lab-vm-1", "vmns/external-app", FIRST, "connection refused " * 9, long, SYNCED)
    text = shown(replace(WELL, members=[member]), width)
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
    document = json.loads(view.as_json(replace(WELL, nodes=NotKnown("away"), members=[member])))
    assert document["healthy"] is False
    assert document["nodes"] == {"not_known": "away"}
    assert document["machines"][0] == {"name": "lab-server-1", "address": "10.89.0.11", "state": "running"}
    assert document["gateways"][1] == {
        "name": "istio-ingressgateway", "addresses": BOTH, "ports": {"http2": 80}, "recorded": BOTH,
    }  # fmt: skip
    assert document["members"] == [
        {
            "name": "lab-vm-1", "workload": "vmns/external-app", "entry": FIRST, "problem": None,
            "certificate_ends": "2026-11-22T09:00:00+00:00", "sync": {"not_known": "why"},
        }
    ]  # fmt: skip
