"""Gateways that are reached at other addresses than Pulumi last read."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ops import gateways
from ops.gateways import moved
from ops.repair import Repaired, repair
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, command, deployment, gateway, machine

READ = ["10.89.0.12", "10.89.0.11"]
EAST_WEST = gateway("istio-eastwestgateway", READ, **{"tls": 15443, "tls-istiod": 15013})
INGRESS = gateway("istio-ingressgateway", READ, http2=80)
WAS = "10.89.0.12, 10.89.0.11"


@pytest.fixture(autouse=True)
def no_long_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "WATCH_SECONDS", 0.5)


@pytest.fixture
def at(api: Api) -> Callable[..., None]:
    """Puts both gateways at addresses."""

    def put(*addresses: str) -> None:
        for name in ("istio-eastwestgateway", "istio-ingressgateway"):
            api.service("istio-system", name, *addresses)

    return put


def state(api: Api) -> dict[str, Any]:
    return deployment(api, EAST_WEST, INGRESS)


def never(_: float) -> None:
    raise AssertionError("nobody should wait")


@pytest.mark.parametrize("now", [READ, READ[::-1], []])
def test_a_gateway_that_has_not_moved_costs_one_look(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str], now: Sequence[str]
) -> None:
    at(*now)
    assert moved(state(api), never) == []
    assert capsys.readouterr().out == ""


def test_gateways_that_have_moved_are_read_again(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    at("10.89.0.12", "10.89.0.13")
    assert moved(state(api), lambda _: None) == [EAST_WEST["urn"], INGRESS["urn"]]
    now = "10.89.0.12, 10.89.0.13"
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"repair: gateway istio-eastwestgateway: {WAS} → {now}; updating the VMs",
        f"repair: gateway istio-ingressgateway: {WAS} → {now}; updating the stack's outputs",
    ]


def test_only_the_one_that_has_moved_is_read_again(api: Api, at: Callable[..., None]) -> None:
    at(*READ)
    api.service("istio-system", "istio-ingressgateway", "a-load-balancer.example")
    assert moved(state(api), lambda _: None) == [INGRESS["urn"]]


def test_a_list_that_shrinks_for_a_moment_is_no_move(api: Api, at: Callable[..., None]) -> None:
    at("10.89.0.12")
    assert moved(state(api), lambda _: at(*READ)) == []


def test_a_list_that_grows_is_followed_once_it_stays(api: Api, at: Callable[..., None]) -> None:
    looks = iter([["10.89.0.1"], ["10.89.0.1", "10.89.0.2"]])
    at("10.89.0.9")
    assert moved(state(api), lambda _: at(*next(looks, ["10.89.0.1", "10.89.0.2"]))) is not None
    assert next(looks, None) is None


def test_a_list_that_does_not_stay_is_left_alone(api: Api, at: Callable[..., None]) -> None:
    looks = iter(range(1_000_000))
    at("10.89.0.1")
    assert moved(state(api), lambda _: at(f"10.89.1.{next(looks)}")) == []


def test_a_cluster_that_does_not_answer_is_told(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    api.url = "http://127.0.0.1:9"
    assert moved(state(api), never) is None
    assert "addresses cannot be compared: the cluster's API at http://127.0.0.1:9" in capsys.readouterr().out


def test_what_was_never_read_has_not_moved(api: Api) -> None:
    begun = command("x-addresses", "components.mesh", "gateway-addresses", {"service": "x"}, hidden=True)
    assert moved(deployment(api, begun), never) == []
    assert moved({}, never) == []


# --------------------------------------------------------------------------------------------- as part of the repair


@pytest.fixture
def elsewhere(stack: Stack, world: World, api: Api, at: Callable[..., None]) -> Stack:
    """A stack with a running machine, and gateways that have moved."""
    at("10.89.0.13")
    world.put("deployment.json", deployment(api, EAST_WEST, INGRESS, machine("lab-a"), machine("lab-b")))
    return stack


def test_repair_has_moved_gateways_read_again(elsewhere: Stack, world: World) -> None:
    states = {"lab-a": "running"}
    world.put("machines.list.json", [{"name": name, "state": state} for name, state in states.items()])
    gone = machine("lab-b")["urn"]
    assert repair(elsewhere) == Repaired([], [gone, EAST_WEST["urn"], INGRESS["urn"]], gateways_compared=True)


def test_while_machines_start_gateways_are_not_compared(elsewhere: Stack, world: World) -> None:
    world.put("machines.list.json", [{"name": name, "state": "stopped"} for name in ("lab-a", "lab-b")])
    assert repair(elsewhere) == Repaired(["lab-a", "lab-b"], [], gateways_compared=False)


def test_to_be_destroyed_gateways_may_be_anywhere(elsewhere: Stack) -> None:
    assert repair(elsewhere, to_destroy=True) == Repaired()
