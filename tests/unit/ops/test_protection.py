"""What is protected is not taken down, and not recreated without being given up first."""

import sys
from typing import Any

import pytest

from commands import __main__ as cli
from ops.errors import OpsError
from ops.repair import repair
from ops.workspace import Stack
from tests.unit.ops.conftest import World, command, machine, urn


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK", "lab")


def node(name: str, of: dict[str, Any]) -> dict[str, Any]:
    made = command(f"{name}-node", "cluster.member", {"node": name, "servers": []})
    return {**made, "propertyDependencies": {"triggers": [of["urn"]], "stdin": [of["urn"]]}}


def protected(resource: dict[str, Any]) -> dict[str, Any]:
    return {**resource, "protect": True}


def down(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["istio-vms", "down"])
    return cli.main()


def test_a_protected_stack_is_not_taken_down(
    stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    component = {
        "urn": urn("istio-vms:machines:Machine", "lab-a"),
        "type": "istio-vms:machines:Machine",
        "protect": True,
    }
    world.put("deployment.json", {"resources": [component, protected(machine("lab-a")), machine("lab-b")]})
    assert down(monkeypatch) == 1
    assert not world.calls("destroy")
    message = " ".join(capsys.readouterr().err.split())
    assert (
        "set machines and controlPlane of istio-vms:protection to false in Pulumi.lab.yaml, `make up STACK=lab`"
        in message
    )
    assert message.endswith("Protected are lab-a-machine")


def test_a_stack_that_is_not_protected_any_more_is(stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("deployment.json", {"resources": [machine("lab-a")]})
    world.put("machines.list.json", [])
    assert down(monkeypatch) == 0
    assert world.calls("destroy")


def test_a_protected_machine_that_is_gone_is_given_up_by_hand(stack: Stack, world: World) -> None:
    gone, other = machine("lab-a"), machine("lab-b")
    resources = [protected(gone), protected(other), protected(node("lab-a", gone)), protected(node("lab-b", other))]
    world.put("deployment.json", {"resources": resources})
    world.put("machines.list.json", [{"name": "lab-b", "state": "running"}])
    with pytest.raises(
        OpsError, match=r"^lab-a-machine: protected, and the driver does not have it any more"
    ) as caught:
        repair(stack)
    commands = str(caught.value).splitlines()[2:]
    assert commands == [
        f"  pulumi state unprotect --stack lab --yes '{lost['urn']}'" for lost in (resources[0], resources[2])
    ]


def test_one_that_was_given_up_is_made_anew(stack: Stack, world: World) -> None:
    gone, other = machine("lab-a"), machine("lab-b")
    world.put("deployment.json", {"resources": [gone, protected(other), node("lab-a", gone)]})
    world.put("machines.list.json", [{"name": "lab-b", "state": "running"}])
    assert repair(stack).replace == [gone["urn"]]
