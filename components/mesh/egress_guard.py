"""Keeps the pods of a namespace from reaching virtual machines.

A NetworkPolicy selects pods, and a VM is none: a deny-all in the VM's namespace, with the VM's own labels, selects nothing, and traffic
goes on. Nothing of Kubernetes stands at the VM's side. What can be guarded is the other end: the egress of the pods that must not reach
it, by the VM's address, which the program knows. So a guarded namespace may send anywhere but to the VMs.

This stops packets, with a sidecar or without one, and needs a network plugin that enforces NetworkPolicies, as k3s does by itself; pods on
their node's own network (`hostNetwork`) are beyond it. Who may call a VM among those who reach it is another question, of identity:
`MeshPolicies`. VMs have IPv4 addresses here. A policy allows what it names only, so a guarded pod has no egress over IPv6 at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.networking import v1 as networking

from components.cluster.access import ClusterAccess


class EgressGuardsArgs(TypedDict):
    """Guarded namespaces."""

    cluster: ClusterAccess
    namespaces: Mapping[str, pulumi.Input[str]]
    """The namespaces themselves, by their names."""
    guards: Mapping[str, Sequence[pulumi.Input[str]]]
    """Names of namespaces to the IPv4 addresses of VMs that their pods cannot reach; without any there is no policy."""


class EgressGuards(pulumi.ComponentResource):
    """A NetworkPolicy `egress-guard` for each namespace, over all of its pods."""

    def __init__(self, name: str, args: EgressGuardsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Apply them; the nodes' rules follow within a second or two."""
        super().__init__("istio-vms:mesh:EgressGuards", name, None, opts)
        for key, addresses in args["guards"].items():
            if not addresses:
                pulumi.log.warn(f"namespace {key} is not guarded: there is no VM yet to keep its pods from", self)
                continue
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-{key}",
                metadata={"name": "egress-guard", "namespace": args["namespaces"][key]},
                spec=everywhere_but(pulumi.Output.all(*addresses)),
                opts=args["cluster"].options(self),
            )
        self.register_outputs({})


def everywhere_but(addresses: pulumi.Output[list[str]]) -> networking.NetworkPolicySpecArgs:
    """Egress of every pod to everywhere except for these IPv4 addresses."""
    block = networking.IPBlockArgs(
        cidr="0.0.0.0/0", except_=addresses.apply(lambda known: [f"{address}/32" for address in sorted(known)])
    )
    return networking.NetworkPolicySpecArgs(
        pod_selector=kubernetes.meta.v1.LabelSelectorArgs(),
        policy_types=["Egress"],
        egress=[networking.NetworkPolicyEgressRuleArgs(to=[networking.NetworkPolicyPeerArgs(ip_block=block)])],
    )
