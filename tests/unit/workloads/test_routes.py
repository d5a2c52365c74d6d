"""Which routes lead to the pods of a node."""

from __future__ import annotations

from typing import Any

from actions.workloads.routes import Route, to_pods


def node(address: str, *cidrs: str) -> dict[str, Any]:
    """As the API shows it."""
    addresses = [{"type": "Hostname", "address": "agent"}, {"type": "InternalIP", "address": address}]
    return {"spec": {"podCIDRs": list(cidrs)} if cidrs else {}, "status": {"addresses": addresses}}


def route(cidr: str, via: str) -> Route:
    return Route.model_validate({"cidr": cidr, "via": via})


def test_a_nodes_pods_are_reached_via_its_own_address() -> None:
    nodes = [node("10.89.0.11", "10.42.0.0/24"), node("10.89.0.12", "10.42.1.0/24")]
    assert to_pods(nodes, "10.89.0.12") == [route("10.42.1.0/24", "10.89.0.12")]


def test_an_address_leads_to_addresses_of_its_own_family() -> None:
    assert to_pods([node("10.89.0.11", "fd42::/64", "10.42.0.0/24")], "10.89.0.11") == [
        route("10.42.0.0/24", "10.89.0.11")
    ]


def test_a_node_that_has_just_joined_or_is_not_there_has_none() -> None:
    assert to_pods([node("10.89.0.11")], "10.89.0.11") == []
    assert to_pods([node("10.89.0.11", "10.42.0.0/24")], "10.89.0.1") == []
    assert to_pods([{"spec": {}}], "10.89.0.11") == []
