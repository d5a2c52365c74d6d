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


class Guard(TypedDict):
    """One namespace, and the VMs that its pods cannot reach."""

    namespace: pulumi.Input[str]
    addresses: Sequence[pulumi.Input[str]]
    """The VMs' IPv4 addresses. Without any there is nothing to guard, and no policy."""


class EgressGuardsArgs(TypedDict):
    """Guarded namespaces."""

    cluster: ClusterAccess
    guards: Mapping[str, Guard]
    """By the namespace's name, which becomes part of the resource's."""


class EgressGuards(pulumi.ComponentResource):
    """A NetworkPolicy `egress-guard` for each namespace, over all of its pods."""

    def __init__(self, name: str, args: EgressGuardsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Apply them; the nodes' rules follow within a second or two."""
        super().__init__("istio-vms:mesh:EgressGuards", name, None, opts)
        for key, guard in args["guards"].items():
            if not guard["addresses"]:
                pulumi.log.warn(f"namespace {key} is not guarded: there is no VM yet to keep its pods from", self)
                continue
            kubernetes.networking.v1.NetworkPolicy(
                f"{name}-{key}",
                metadata={"name": "egress-guard", "namespace": guard["namespace"]},
                spec=everywhere_but(pulumi.Output.all(*guard["addresses"])),
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
