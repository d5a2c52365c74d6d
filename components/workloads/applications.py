"""What the mesh knows applications by: a Service for each name, an account for each identity, whoever needs it.

Pods, VMs and traffic may need the same one. It stays while anyone does: nobody's own component makes it. Functions and no component, as
the resources have nobody to be named after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.access import ClusterAccess
from components.names import Key, resource_name


class ServiceArgs(TypedDict):
    """One Service."""

    app: str
    """The label of that name of the pods and VMs behind it."""
    ports: Mapping[str, int]
    """Port names to numbers; what is behind listens on the same."""
    pods: bool
    """Whether there are pods behind it, which it waits for. A VM is nothing that the provider would see."""
    formerly: Sequence[pulumi.Alias]


def make_services(
    cluster: ClusterAccess, namespaces: Mapping[str, pulumi.Input[str]], wanted: Mapping[Key, ServiceArgs]
) -> dict[Key, kubernetes.core.v1.Service]:
    """Make each Service once, in the namespaces by their names."""
    return {key: _service(cluster, namespaces[key[0]], key, args) for key, args in wanted.items()}


def make_accounts(
    cluster: ClusterAccess, namespaces: Mapping[str, pulumi.Input[str]], wanted: Mapping[Key, Sequence[pulumi.Alias]]
) -> dict[Key, kubernetes.core.v1.ServiceAccount]:
    """Make each account once; `wanted` has what a state may call it."""
    return {
        key: kubernetes.core.v1.ServiceAccount(
            resource_name("ServiceAccount", key),
            metadata={"name": key[1], "namespace": namespaces[key[0]]},
            opts=cluster.options(None, formerly=formerly),
        )
        for key, formerly in wanted.items()
    }


def _service(
    cluster: ClusterAccess, namespace: pulumi.Input[str], key: Key, args: ServiceArgs
) -> kubernetes.core.v1.Service:
    selector = {"app": args["app"]}
    return kubernetes.core.v1.Service(
        resource_name("Service", key),
        metadata=kubernetes.meta.v1.ObjectMetaArgs(
            name=key[1],
            namespace=namespace,
            labels=selector,
            annotations=None if args["pods"] else {"pulumi.com/skipAwait": "true"},
        ),
        spec=kubernetes.core.v1.ServiceSpecArgs(
            selector=selector,
            ports=[
                kubernetes.core.v1.ServicePortArgs(name=name, port=port, target_port=port)
                for name, port in args["ports"].items()
            ],
        ),
        opts=cluster.options(None, formerly=args["formerly"]),
    )
