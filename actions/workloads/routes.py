"""Routes to pods, which a member of a single-network mesh needs: each node leads to the pods it runs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from actions.kube import ApiObject
from actions.protocol import Document

NODES = "/api/v1/nodes"


class Route(Document):
    """The pod addresses of one node, and the node's own address."""

    cidr: ipaddress.IPv4Network | ipaddress.IPv6Network
    via: ipaddress.IPv4Address | ipaddress.IPv6Address


def to_pods(nodes: Sequence[ApiObject], address: str) -> list[Route]:
    """Routes via the node that has this address; none where no node has it, or none of the node's pods can be reached that way.

    Args:
        nodes: Node objects, whose `spec.podCIDRs` the cluster fills in a moment after they have joined.
        address: a node's `InternalIP`.
    """
    via = ipaddress.ip_address(address)
    cidrs = [ipaddress.ip_network(cidr) for node in nodes if _has(node, address) for cidr in _pod_cidrs(node)]
    return [Route(cidr=cidr, via=via) for cidr in cidrs if cidr.version == via.version]


def _has(node: ApiObject, address: str) -> bool:
    known = node.get("status", {}).get("addresses", [])
    return any(one["type"] == "InternalIP" and one["address"] == address for one in known)


def _pod_cidrs(node: ApiObject) -> list[str]:
    return node["spec"].get("podCIDRs", [])
