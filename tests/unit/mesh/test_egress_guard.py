"""Which addresses the pods of a guarded namespace cannot reach."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pytest

from components.cluster.access import ClusterAccess
from components.mesh.egress_guard import EgressGuards
from tests.unit.test_components import Recorder, run_program
from tests.unit.test_settings import LAB, put


def guards(addresses: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The NetworkPolicies of one guarded namespace, by the name of their resource."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder)

    @pulumi.runtime.test
    def run() -> None:
        provider = kubernetes.Provider("cluster", kubeconfig="{}")
        access = ClusterAccess(pulumi.Output.from_input("{}"), provider, provider, pulumi.Output.from_input([]), [], [])
        outputs = [pulumi.Output.from_input(address) for address in addresses]
        EgressGuards("guards", {"cluster": access, "namespaces": {"team": "team"}, "guards": {"team": outputs}})

    run()
    return {name: args.inputs for name, args in recorder.made.items() if "NetworkPolicy" in args.typ}


def test_every_pod_may_send_everywhere_but_to_the_vms() -> None:
    policy = guards(["10.89.1.12", "10.89.0.14"])["guards-team"]
    assert policy["metadata"] == {"name": "egress-guard", "namespace": "team"}
    assert policy["spec"] == {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.89.0.14/32", "10.89.1.12/32"]}}]}],
    }


def test_with_no_vm_there_is_no_policy_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message, _resource: said.append(message))
    assert guards([]) == {}
    assert said == ["namespace team is not guarded: there is no VM yet to keep its pods from"]


def test_a_guard_is_about_every_vm_or_those_of_its_workloads(lab: Recorder) -> None:
    some = run_program(put(LAB, "policies.egressGuards.0.workloads", ["vmns/external-app"]))
    for made, number in ((lab, 4), (some, 3)):
        spec = made.made["egress-guards-sample-guarded"].inputs["spec"]
        assert spec["egress"][0]["to"][0]["ipBlock"]["except"] == ["10.89.0.11/32"] * number
