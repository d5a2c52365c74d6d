"""What the mesh knows of a VM workload before any VM is there: account, WorkloadGroup, Service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane


class ProbeArgs(TypedDict):
    """An HTTP readiness probe, asked by the VM's own sidecar. Times are seconds."""

    path: str
    port: int
    period_seconds: int
    timeout_seconds: int
    success_threshold: int
    failure_threshold: int


class VmWorkloadArgs(TypedDict):
    """A logical group of VMs, what a Deployment is to pods."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    namespace: pulumi.Input[str]
    workload: str
    """The name of the WorkloadGroup and of the Service."""
    service_account: str
    """Whose identity the VMs have."""
    network: str
    """The Istio network of the VMs."""
    ports: Mapping[str, int]
    """Service port names to numbers; the VMs listen on the same."""
    probe: ProbeArgs
    labels: NotRequired[Mapping[str, str]]
    """Further labels of the VMs."""


class VmWorkload(pulumi.ComponentResource):
    """A WorkloadGroup with its account and Service: ready for VMs to register."""

    labels: Mapping[str, str]
    """The labels every VM of the group has, the Service's selector among them."""
    registered: list[pulumi.Resource]
    """What has to be there before a VM joins."""

    def __init__(self, name: str, args: VmWorkloadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Register the group; no machine is made here."""
        super().__init__("istio-vms:workloads:VmWorkload", name, None, opts)
        cluster, namespace = args["cluster"], args["namespace"]
        selector = {"app": args["workload"]}
        self.labels = {**args.get("labels", {}), **selector}
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata={"name": args["service_account"], "namespace": namespace},
            opts=cluster.options(self),
        )
        group = kubernetes.apiextensions.CustomResource(
            f"{name}-group",
            api_version="networking.istio.io/v1",
            kind="WorkloadGroup",
            metadata={"name": args["workload"], "namespace": namespace},
            spec={
                "metadata": {"labels": dict(self.labels)},
                "template": {"serviceAccount": args["service_account"], "network": args["network"]},
                "probe": probe_document(args["probe"]),
            },
            opts=cluster.options(self, args["control_plane"].crds),
        )
        service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata={
                "name": args["workload"],
                "namespace": namespace,
                "labels": selector,
                # No pod answers for it, so the provider would wait for endpoints that never come.
                "annotations": {"pulumi.com/skipAwait": "true"},
            },
            spec=kubernetes.core.v1.ServiceSpecArgs(
                selector=selector,
                ports=[
                    kubernetes.core.v1.ServicePortArgs(name=key, port=port, target_port=port)
                    for key, port in args["ports"].items()
                ],
            ),
            opts=cluster.options(self),
        )
        self.registered = [account, group, service]
        self.register_outputs({})


def probe_document(args: ProbeArgs) -> dict[str, object]:
    """The `probe` of a WorkloadGroup, which every member's own files repeat."""
    return {
        "periodSeconds": args["period_seconds"],
        "timeoutSeconds": args["timeout_seconds"],
        "successThreshold": args["success_threshold"],
        "failureThreshold": args["failure_threshold"],
        "httpGet": {"path": args["path"], "port": args["port"]},
    }
