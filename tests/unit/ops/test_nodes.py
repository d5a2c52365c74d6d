"""Nodes that someone deleted from the cluster come back, with their pods."""

from collections.abc import Callable
from typing import Any

import pytest

from ops import nodes
from ops.live import RENUMBERED, Live, Renumbered
from ops.nodes import bring_back
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, command, deployment

FORMER = {"lab-agent-1": Renumbered("10.42.2.0/24", ["10.42.1.7"])}
TOLD = {"node": "lab-agent-1", "machine": {"host": "h"}, "pod_range": "10.42.2.0/24", "former": ["10.42.1.7"]}


def member_of(name: str, **machine: Any) -> dict[str, Any]:
    return command(f"{name}-node", "cluster.member", {"node": name, "servers": [], **machine})


@pytest.fixture
def state(api: Api, world: World) -> dict[str, Any]:
    for verb in ("member", "renumber"):
        world.put(f"cluster.{verb}.json", {"node": "lab-agent-1"})
    return deployment(api, *(member_of(name, machine={"host": "h"}) for name in ("lab-server-1", "lab-agent-1")))


def shows(monkeypatch: pytest.MonkeyPatch, *looks: Live) -> Callable[[], int]:
    """What the cluster says, look by look; returns how many were not needed."""
    left = list(looks)
    monkeypatch.setattr(nodes, "look", lambda outputs: left.pop(0))
    return lambda: len(left)


WELL = Live({"lab-server-1": None, "lab-agent-1": None})
GONE = Live({"lab-server-1": None, "lab-agent-1": "is not in the cluster"})
ELSEWHERE = Live({"lab-server-1": None, "lab-agent-1": RENUMBERED}, FORMER)


def test_where_every_node_is_there_one_look_is_enough(
    stack: Stack, world: World, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(monkeypatch, WELL)
    assert bring_back(stack, state) == ()
    assert not (world.folder / "actions.jsonl").exists()


def test_a_node_that_was_deleted_registers_again(
    stack: Stack,
    world: World,
    state: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shows(monkeypatch, GONE, WELL)
    assert bring_back(stack, state) == ("lab-agent-1",)
    assert [document["node"] for document in world.requests("cluster.member")] == ["lab-agent-1"]
    assert world.requests("cluster.renumber") == []
    assert "repair: lab-agent-1 registers with the cluster again\n  lab-agent-1 [" in capsys.readouterr().out


@pytest.mark.parametrize("looks", [(GONE, ELSEWHERE), (ELSEWHERE,)], ids=["deleted", "restarted by hand since"])
def test_pods_that_nobody_reaches_since_start_anew(
    stack: Stack, world: World, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch, looks: tuple[Live, ...]
) -> None:
    left = shows(monkeypatch, *looks)
    assert bring_back(stack, state) == ("lab-agent-1",)
    assert world.requests("cluster.renumber") == [TOLD]
    assert left() == 0


def test_a_node_that_cannot_come_back_is_told_and_passed_over(
    stack: Stack,
    world: World,
    state: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.put("cluster.member.error", "error: lab-agent-1 is not in the cluster, and its machine cannot be used: off")
    shows(monkeypatch, GONE, GONE)
    assert bring_back(stack, state) == ()
    why = "lab-agent-1 is not in the cluster, and its machine cannot be used: off"
    assert f"repair: lab-agent-1 cannot be brought back: {why}\n" in capsys.readouterr().out


def test_an_earlier_versions_node_without_its_machine_keeps_its_pods(
    stack: Stack, world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(monkeypatch, ELSEWHERE)
    assert bring_back(stack, deployment(api, member_of("lab-agent-1"))) == ()
    assert not (world.folder / "actions.jsonl").exists()


@pytest.mark.parametrize("resources", [[], [member_of("lab-server-1")]], ids=["nothing", "a cluster half made"])
def test_before_a_stack_was_up_nobody_is_asked(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, resources: list[dict[str, Any]]
) -> None:
    shows(monkeypatch)
    assert bring_back(stack, {"resources": resources}) == ()
