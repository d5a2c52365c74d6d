"""What people read at the end: everything well, something not, nothing known."""

import io
from typing import Any

import pytest
from rich.console import Console

from ops import summary
from ops.live import Live
from ops.timeline import Link
from tests.unit.ops.conftest import NAMES, Api, outputs

WELL = Live(dict.fromkeys(("lab-server-1", "lab-agent-1")), dict.fromkeys(NAMES))

AT_80 = """
stack lab
  node     lab-server-1  10.89.0.11  Ready
  node     lab-agent-1   10.89.0.12  Ready
  gateway  ingress       10.89.0.11  status-port 15021, http2 80, https 443
                         10.89.0.12
  gateway  eastWest      10.89.0.11  status-port 15022, tls 15443, tls-istiod
                         10.89.0.12  15013, tls-webhook 15018
  VM       lab-vm-1      10.89.0.14  healthy
  VM       lab-vm-2      10.89.1.10  healthy
  lab-vm-1 is WorkloadEntry vmns/external-app-10.89.0.14-vm-network
  lab-vm-2 is WorkloadEntry vmns/external-app-10.89.1.10-vm-network
  vm lab-vm-1 → http://helloworld.sample.svc:5000/hello:
    200, mutual TLS as spiffe://cluster.local/ns/vmns/sa/external-app
  kubectl: export KUBECONFIG=$(make -s kubeconfig STACK=lab)
  shell:   make ssh STACK=lab VM=vm-1
  shell:   make ssh STACK=lab VM=vm-2
"""


def shown(api: Api, live: Live, width: int = 80, **changes: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, soft_wrap=True)
    summary.show("lab", {**outputs(api), **changes}, live, console)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if f" {name} " in line)


def test_all_well_at_80_columns(api: Api) -> None:
    assert shown(api, WELL) == AT_80


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_longer_than_the_terminal(api: Api, width: int) -> None:
    assert max(map(len, shown(api, WELL, width).splitlines())) <= width


def test_what_is_not_well_says_so(api: Api) -> None:
    live = Live(
        {"lab-server-1": None, "lab-agent-1": "Kubelet stopped"},
        {"lab-vm-1": "no [connection]", "lab-vm-2": None},
        problems=["[oh] no"],
    )
    text = shown(api, live)
    assert row(text, "lab-agent-1").endswith("not Ready: Kubelet stopped")
    assert row(text, "lab-server-1").endswith(" Ready")
    assert row(text, "lab-vm-1").endswith("not healthy: no [connection]")
    assert text.endswith("[oh] no\n")
    assert not live.healthy


def test_a_cluster_that_does_not_answer_says_nothing_of_its_nodes(api: Api) -> None:
    live = Live(unreachable="GET /api: [Errno 111] refused")
    text = shown(api, live)
    assert [row(text, name).split("  ")[-1] for name in ("lab-server-1", "lab-vm-2")] == ["not known"] * 2
    assert text.endswith("the cluster does not answer: GET /api: [Errno 111] refused\n")
    assert not live.healthy


def test_newer_evidence_is_shown_instead_of_the_older(api: Api) -> None:
    seen = {"source": "pod a", "url": "http://b", "status": 200, "proof": "proxied", "client_identity": None}
    text = shown(api, Live(WELL.nodes, WELL.members, proof=[seen]))
    assert "  pod a → http://b:\n    200, through a sidecar\n" in text
    assert "spiffe" not in text
    assert "→" not in shown(api, Live(WELL.nodes, WELL.members, proof=[]))


def test_members_of_one_service_have_one_line_for_it(api: Api) -> None:
    seen = {"source": "pod a", "url": "http://b", "status": 200, "proof": "proxied", "client_identity": None}
    live = Live(WELL.nodes, WELL.members, proof=[{**seen, "vm": "lab-vm-1"}, {**seen, "vm": "lab-vm-2"}])
    assert shown(api, live).count("pod a") == 1


def test_evidence_has_the_fields_of_the_proof() -> None:
    from dataclasses import asdict

    from components.samples.proof import Evidence

    made = asdict(Evidence("vm", "pod a", "http://b", 200, "mutual-tls", "spiffe://c", "spiffe://d"))
    assert summary.evidence(made) == "pod a → http://b:\n    200, mutual TLS as spiffe://c"


def test_a_stack_without_samples_has_no_evidence(api: Api) -> None:
    assert "→" not in shown(api, WELL, proof=None)


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
