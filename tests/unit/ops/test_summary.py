"""What people read at the end: everything well, something not, nothing known."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from ops import summary
from ops.finding import Finding
from ops.proof import Proof
from ops.status.model import Gateway, Member, Node, NotKnown, Status
from ops.timeline import Link
from tests.unit.ops.conftest import NAMES, Api, outputs

BOTH = ["10.89.0.11", "10.89.0.12"]
EAST_WEST = {"status-port": 15022, "tls": 15443, "tls-istiod": 15013, "tls-webhook": 15018}
INGRESS = {"status-port": 15021, "http2": 80, "https": 443}
WELL = Status(
    stack="lab",
    machines=[],
    nodes=[Node("lab-server-1", None, "v1"), Node("lab-agent-1", None, "v1")],
    istiods=[],
    gateways=[
        Gateway("istio-ingressgateway", BOTH, INGRESS, BOTH, INGRESS),
        Gateway("istio-eastwestgateway", BOTH, EAST_WEST, BOTH, EAST_WEST),
    ],
    workloads=[],
    members=[Member(name, "vmns/external-app", entry, None, None, {}) for name, entry in NAMES.items()],
)
AT = datetime(2026, 11, 21, 3, 4, 5).astimezone(UTC)
SEEN = {"source": "pod a", "url": "http://b", "status": 200, "proof": "proxied", "client_identity": None}

AT_80 = """
stack lab
  node     lab-server-1           10.89.0.11  Ready
  node     lab-agent-1            10.89.0.12  Ready
  gateway  istio-ingressgateway   10.89.0.11  status-port 15021, http2 80, https
                                  10.89.0.12  443
  gateway  istio-eastwestgateway  10.89.0.11  status-port 15022, tls 15443,
                                  10.89.0.12  tls-istiod 15013, tls-webhook
                                              15018
  VM       lab-vm-1               10.89.0.14  healthy
  VM       lab-vm-2               10.89.1.10  healthy
  lab-vm-1 is WorkloadEntry vmns/external-app-10.89.0.14-vm-network
  lab-vm-2 is WorkloadEntry vmns/external-app-10.89.1.10-vm-network
  proved at 03:04:05:
  vm lab-vm-1 → http://helloworld.sample.svc:5000/hello:
    200, mutual TLS as spiffe://cluster.local/ns/vmns/sa/external-app
  kubectl: export KUBECONFIG=$(make -s kubeconfig STACK=lab)
  shell:   make ssh STACK=lab VM=vm-1
  shell:   make ssh STACK=lab VM=vm-2
"""


def shown(
    api: Api, status: Status, width: int = 80, proof: Proof | None = None, findings: tuple[Finding, ...] = ()
) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, soft_wrap=True)
    exported: dict[str, Any] = outputs(api)
    summary.show(exported, status, proof or Proof(json.loads(exported["proof"]), AT), findings, console)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if f" {name} " in line)


def test_all_well_at_80_columns(api: Api) -> None:
    assert shown(api, WELL) == AT_80


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_longer_than_the_terminal(api: Api, width: int) -> None:
    long = Finding("id", "VM lab-vm-1", "is not healthy: " + "it was refused " * 20, "start it " * 20)
    assert max(map(len, shown(api, WELL, width, findings=(long,)).splitlines())) <= width


def test_what_is_not_well_says_so(api: Api) -> None:
    nodes = [Node("lab-server-1", None, "v1"), Node("lab-agent-1", "is not Ready: Kubelet stopped", "v1")]
    first, second = WELL.members
    sick = replace(WELL, nodes=nodes, members=[replace(first, problem="no [connection]"), second])
    text = shown(api, sick, findings=(Finding("id", "the [oh]", "is no", "do [that]"),))
    assert row(text, "lab-agent-1").endswith(" is not Ready: Kubelet stopped")
    assert row(text, "lab-server-1").endswith(" Ready")
    assert row(text, "lab-vm-1").endswith("not healthy: no [connection]")
    assert text.endswith("  the [oh] is no\n    → do [that]\n")


def test_a_gateway_is_where_it_is_now_and_not_where_it_was(api: Api) -> None:
    gateways = [Gateway("istio-ingressgateway", [], INGRESS, BOTH, INGRESS)]
    line = row(shown(api, replace(WELL, gateways=gateways)), "istio-ingressgateway")
    assert " none " in line and "10.89.0" not in line


def test_a_cluster_that_does_not_answer_says_nothing_of_its_nodes(api: Api) -> None:
    away = NotKnown("refused")
    members = [replace(one, problem=away) for one in WELL.members]
    text = shown(api, replace(WELL, nodes=away, gateways=away, members=members))
    assert [row(text, name).split("  ")[-1] for name in ("lab-server-1", "gateways", "lab-vm-2")] == ["not known"] * 3


def test_only_what_was_seen_now_is_shown(api: Api) -> None:
    text = shown(api, WELL, proof=Proof([SEEN], AT))
    assert "  proved at 03:04:05:\n  pod a → http://b:\n    200, through a sidecar\n" in text
    assert "spiffe" not in text
    nothing = shown(api, WELL, proof=Proof())
    assert "→" not in nothing and "proved" not in nothing


def test_members_of_one_service_have_one_line_for_it(api: Api) -> None:
    proof = Proof([{**SEEN, "vm": "lab-vm-1"}, {**SEEN, "vm": "lab-vm-2"}], AT)
    assert shown(api, WELL, proof=proof).count("pod a") == 1


def test_evidence_has_the_fields_of_the_proof() -> None:
    from dataclasses import asdict

    from actions.samples.proof import Evidence

    made = asdict(Evidence("vm", "pod a", "http://b", 200, "mutual-tls", "spiffe://c", "spiffe://d"))
    assert summary.evidence(made) == "pod a → http://b:\n    200, mutual TLS as spiffe://c"


# --------------------------------------------------------------------------------------------- the time


def test_the_chain_leaves_out_what_took_no_time() -> None:
    out = io.StringIO()
    console = Console(file=out, width=60, soft_wrap=True)
    links = [Link("key-pair", 0.04), *(Link(f"lab-server-{i}-machine", 10 + i) for i in range(4))]
    summary.show_chain(links, 61.23, console)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("  61.2 s; the longest chain (seconds): ")
    assert "key-pair" not in out.getvalue()
    assert "lab-server-0-machine 10.0 → lab-server-1-machine 11.0" in " ".join(out.getvalue().split())
    assert max(map(len, lines)) <= 60


def test_nothing_changed_is_said() -> None:
    out = io.StringIO()
    summary.show_chain([], 4.5, Console(file=out, width=80))
    assert out.getvalue() == "  4.5 s; nothing changed in the state\n"
