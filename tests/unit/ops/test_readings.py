"""Readings that are not true any more: gateways at other addresses, another root certificate, another mesh configuration."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ops import readings
from ops.readings import outdated, renewed
from ops.repair import Repaired, repair
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, command, deployment, gateway, machine

READ = ["10.89.0.12", "10.89.0.11"]
EAST_WEST = gateway("istio-eastwestgateway", READ, **{"tls": 15443, "tls-istiod": 15013})
INGRESS = gateway("istio-ingressgateway", READ, http2=80)
WAS = "10.89.0.12, 10.89.0.11"


@pytest.fixture(autouse=True)
def no_long_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "WATCH_SECONDS", 0.5)


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


@pytest.mark.parametrize("now", [READ, READ[::-1]])
def test_a_gateway_that_has_not_moved_costs_one_look(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str], now: Sequence[str]
) -> None:
    at(*now)
    assert outdated(state(api), never) == []
    assert capsys.readouterr().out == ""


def test_gateways_that_have_moved_are_read_again(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    at("10.89.0.12", "10.89.0.13")
    assert outdated(state(api), lambda _: None) == [EAST_WEST["urn"], INGRESS["urn"]]
    now = "10.89.0.12, 10.89.0.13"
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"repair: gateway istio-eastwestgateway: {WAS} → {now}; updating the VMs",
        f"repair: gateway istio-ingressgateway: {WAS} → {now}; updating the stack's outputs",
    ]


def test_a_gateway_that_has_no_address_any_more_is_read_again(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    at()
    assert outdated(state(api), lambda _: None) == [EAST_WEST["urn"], INGRESS["urn"]]
    assert f"gateway istio-eastwestgateway: {WAS} → no address; waiting for one" in capsys.readouterr().out


def test_addresses_that_come_back_at_once_are_no_difference(api: Api, at: Callable[..., None]) -> None:
    at()
    assert outdated(state(api), lambda _: at(*READ)) == []


ROOT = command(
    "root-certificate", "mesh.root-certificate", {"namespace": "istio-system"}, hidden=True,
    printed={"root_certificate": "OLD"},
)  # fmt: skip
CONFIG = {"trust_domain": "cluster.local", "mesh_id": "mesh1", "proxy_config": {"concurrency": 2}}
MESH = command(
    "mesh-config", "mesh.mesh-config", {"namespace": "istio-system", "revision": "1-32"}, hidden=True,
    printed=CONFIG,
)  # fmt: skip
MESH_TEXT = "defaultConfig: {concurrency: %s, discoveryAddress: a, meshId: mesh1}\ntrustDomain: cluster.local\n"


def published(api: Api, pem: str, concurrency: int) -> None:
    """Puts what istiod publishes where it does."""
    place = "/api/v1/namespaces/istio-system/configmaps"
    api.objects[f"{place}/istio-ca-root-cert"] = {"data": {"root-cert.pem": pem}}
    api.objects[f"{place}/istio-1-32"] = {"data": {"mesh": MESH_TEXT % concurrency}}


def test_what_istiod_publishes_and_has_not_changed_costs_one_look(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    published(api, "OLD", 2)
    assert outdated(deployment(api, ROOT, MESH), never) == []
    assert capsys.readouterr().out == ""


def test_another_root_certificate_and_another_configuration_are_read_again(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    published(api, "NEW", 4)
    assert outdated(deployment(api, ROOT, MESH), lambda _: None) == [ROOT["urn"], MESH["urn"]]
    said = capsys.readouterr().out
    assert "repair: root certificate: SHA-256 " in said
    assert "repair: mesh configuration of 1-32: other proxy_config; updating the VMs" in said
    assert "OLD" not in said


def test_what_istiod_publishes_no_more_is_read_again_which_waits_for_it(api: Api) -> None:
    assert outdated(deployment(api, ROOT, MESH), lambda _: None) == [ROOT["urn"], MESH["urn"]]


def test_a_configuration_that_makes_no_sense_is_told(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    published(api, "OLD", 2)
    api.objects["/api/v1/namespaces/istio-system/configmaps/istio-1-32"] = {"data": {"mesh": "- a\n- b"}}
    assert outdated(deployment(api, ROOT, MESH), never) is None
    assert "ConfigMap istio-system/istio-1-32, key mesh is no mesh configuration" in capsys.readouterr().out


TOLD: dict[str, Any] = {
    "member": {
        "istiod_namespace": "istio-system", "revision": "1-32", "gateway_addresses": READ, "trust_domain": "was.local",
    },
    "root_certificate": "OLD",
    "kubeconfig": "K",
}  # fmt: skip


def test_a_member_that_joins_again_is_told_what_is_true_now(api: Api, at: Callable[..., None]) -> None:
    at("10.89.0.13", "10.89.0.11")
    published(api, "NEW", 4)
    now = renewed(state(api), TOLD)
    member = {
        **TOLD["member"],
        "gateway_addresses": ["10.89.0.11", "10.89.0.13"],
        "mesh_proxy_config": {"concurrency": 4},
        "mesh_id": "mesh1",
        "trust_domain": "cluster.local",
    }
    assert now == {**TOLD, "root_certificate": "NEW", "member": member}


def test_what_cannot_be_read_for_a_member_stays_as_it_was_told(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    at()
    assert renewed(state(api), TOLD) == TOLD
    api.url = "http://127.0.0.1:9"
    assert renewed(state(api), TOLD) == TOLD
    assert "going on with what was read before: the cluster's API at" in capsys.readouterr().out


def test_only_the_one_that_has_moved_is_read_again(api: Api, at: Callable[..., None]) -> None:
    at(*READ)
    api.service("istio-system", "istio-ingressgateway", "a-load-balancer.example")
    assert outdated(state(api), lambda _: None) == [INGRESS["urn"]]


def test_a_list_that_shrinks_for_a_moment_is_no_move(api: Api, at: Callable[..., None]) -> None:
    at("10.89.0.12")
    assert outdated(state(api), lambda _: at(*READ)) == []


def test_a_list_that_grows_is_followed_once_it_stays(api: Api, at: Callable[..., None]) -> None:
    looks = iter([["10.89.0.1"], ["10.89.0.1", "10.89.0.2"]])
    at("10.89.0.9")
    assert outdated(state(api), lambda _: at(*next(looks, ["10.89.0.1", "10.89.0.2"]))) is not None
    assert next(looks, None) is None


def test_a_list_that_does_not_stay_is_left_alone(api: Api, at: Callable[..., None]) -> None:
    looks = iter(range(1_000_000))
    at("10.89.0.1")
    assert outdated(state(api), lambda _: at(f"10.89.1.{next(looks)}")) == []


def test_a_cluster_that_does_not_answer_is_told(
    api: Api, at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    api.url = "http://127.0.0.1:9"
    assert outdated(state(api), never) is None
    assert "cannot be compared with the cluster: the cluster's API at http://127.0.0.1:9" in capsys.readouterr().out


def test_what_was_never_read_has_not_moved(api: Api) -> None:
    begun = command("x-addresses", "mesh.gateway-addresses", {"service": "x"}, hidden=True)
    assert outdated(deployment(api, begun), never) == []
    assert outdated({}, never) == []


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
    assert repair(elsewhere) == Repaired([], [gone, EAST_WEST["urn"], INGRESS["urn"]], compared=True)


def test_while_machines_start_gateways_are_not_compared(elsewhere: Stack, world: World) -> None:
    world.put("machines.list.json", [{"name": name, "state": "stopped"} for name in ("lab-a", "lab-b")])
    assert repair(elsewhere) == Repaired(["lab-a", "lab-b"], [], compared=False)


def test_while_nodes_come_back_gateways_are_not_compared(
    elsewhere: Stack, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("machines.list.json", [{"name": name, "state": "running"} for name in ("lab-a", "lab-b")])
    monkeypatch.setattr("ops.nodes.bring_back", lambda *_: ("lab-agent-1",))
    assert repair(elsewhere) == Repaired([], [], compared=False, back=("lab-agent-1",))


def test_to_be_destroyed_gateways_may_be_anywhere(elsewhere: Stack) -> None:
    assert repair(elsewhere, to_destroy=True) == Repaired()
