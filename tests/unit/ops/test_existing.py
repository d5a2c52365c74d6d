"""A cluster and hosts that the stack did not make, around Pulumi: what `down` gives back, and what `status` tells of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actions.cluster.claim import NOTE
from actions.kube import ApiCluster, KubeError
from actions.workloads.certificate import Certificate
from ops.errors import OpsError
from ops.repair import repair
from ops.status import look as looking
from ops.status import vms
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, command, machine
from tests.unit.ops.test_status import ENDS, FIRST, Lab, deployment, proxy


def claim(api: Api) -> dict[str, Any]:
    document = {"kubeconfig": api.kubeconfig, "owner": "istio-vms/lab", "namespaces": ["vmns"]}
    return command("cluster-claim", "cluster.claim", document, hidden=True)


def begun(world: World, *resources: dict[str, Any]) -> None:
    pending = [{"type": "creating", "resource": resource} for resource in resources]
    world.put("deployment.json", {"resources": [{"urn": "u", "type": "t"}], "pending_operations": pending})


def test_down_gives_back_what_was_being_taken(stack: Stack, world: World, api: Api) -> None:
    begun(world, claim(api), machine("lab-vm-1", driver="existing"), machine("lab-agent-1"))
    repair(stack, to_destroy=True)
    assert [one["owner"] for one in world.requests("cluster.release")] == ["istio-vms/lab"]
    assert [one["name"] for one in world.requests("machines.delete")] == ["lab-vm-1"]


def test_up_gives_back_what_was_being_taken_before_it_takes_it_again(stack: Stack, world: World, api: Api) -> None:
    """By then it may not be wanted any more."""
    begun(world, claim(api), machine("lab-vm-1", driver="existing"))
    assert not repair(stack).replace
    assert [one["owner"] for one in world.requests("cluster.release")] == ["istio-vms/lab"]
    assert [one["name"] for one in world.requests("machines.delete")] == ["lab-vm-1"]
    assert json.loads((world.folder / "imported.json").read_text())["deployment"]["pending_operations"] == []


def test_up_goes_on_without_a_host_that_cannot_be_given_back(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(world, machine("lab-vm-1", driver="existing"))
    world.put("machines.delete.error", "lab-vm-1: no answer")
    repair(stack)
    assert "going on, though it could not be: lab-vm-1: no answer" in capsys.readouterr().out
    kept = json.loads((world.folder / "imported.json").read_text())["deployment"]["pending_operations"]
    assert [one["resource"]["urn"] for one in kept] == [machine("lab-vm-1")["urn"]], "the next run tries it again"


def test_what_the_state_has_taken_is_not_given_back(stack: Stack, world: World, api: Api) -> None:
    """A VM under a new name on the host of another, and a claim that is renewed as another resource."""
    host = machine("lab-vm-1", driver="existing")
    other = {**machine("lab-vm-2", driver="existing"), "inputs": host["inputs"]}
    moved = {**claim(api), "urn": claim(api)["urn"] + "-2"}
    pending = [{"type": "creating", "resource": one} for one in (other, moved, host)]
    world.put("deployment.json", {"resources": [host, claim(api)], "pending_operations": pending})
    repair(stack)
    assert world.requests("cluster.release") == world.requests("machines.delete") == []


def test_down_stops_before_anything_goes_when_the_cluster_refuses_old_credentials(
    stack: Stack, world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str) -> None:
        raise KubeError(f"GET {NOTE}: 401 Unauthorized")

    monkeypatch.setattr(ApiCluster, "get", refuse)
    world.put("deployment.json", {"resources": [claim(api)]})
    with pytest.raises(OpsError, match=r"refuses the credentials of the last `make up`.*`make up STACK=lab` reads the"):
        repair(stack, to_destroy=True)
    repair(stack)


def test_down_stops_before_anything_goes_when_the_cluster_does_not_answer(stack: Stack, world: World, api: Api) -> None:
    api.url = "http://127.0.0.1:9"
    world.put("deployment.json", {"resources": [claim(api)]})
    with pytest.raises(OpsError, match=r"does not answer .*can only be removed while it does"):
        repair(stack, to_destroy=True)


def test_down_goes_on_with_a_cluster_that_answers(
    stack: Stack, world: World, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("deployment.json", {"resources": [claim(api)]})
    repair(stack, to_destroy=True)
    assert "has no note of this stack" in capsys.readouterr().out
    api.objects[NOTE] = {"data": {"owner": "istio-vms/lab"}}
    repair(stack, to_destroy=True)
    assert capsys.readouterr().out == ""


def test_status_shows_the_nodes_of_somebody_elses_cluster(
    api: Api, world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(api, world, stack)
    api.node("theirs", "False")
    monkeypatch.setattr(ApiCluster, "run", lambda _, *words: lab.run(*words))
    monkeypatch.setattr(vms.certificate, "read", lambda vm: Certificate(1, ENDS, ENDS, "spiffe://x"))
    monkeypatch.setattr(vms.Vm, "run", lambda *_, **__: "")
    lab.proxies = [proxy("billing-host.vmns")]
    state = deployment(api)
    outputs = state["resources"][0]["outputs"]
    outputs["machines"] = {name: outputs["machines"][name] for name in outputs["vms"]}
    state["resources"][2]["outputs"] = {"stdout": f'{{"workload_entry": "{FIRST}", "host_name": "billing-host"}}'}
    found = looking.look(stack, state)
    assert not isinstance(found.nodes, looking.NotKnown)
    assert {node.name: node.well for node in found.nodes} == {
        "lab-agent-1": True,
        "lab-server-1": True,
        "theirs": False,
    }
    assert [bool(member.sync) for member in found.members] == [True, False], "a proxy is named by its host"
