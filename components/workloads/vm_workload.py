"""What the mesh knows of a VM workload before any VM is there: account, WorkloadGroup, Service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

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
    """The name of the WorkloadGroup."""
    app: str
    """The VMs' label of that name, and the Service they belong to."""
    version: str | None
    """The VMs' label of that name; None for none."""
    make_service: bool
    """Whether the Service is made here; false where one of that name is made for others of the same app."""
    service_account: str
    """Whose identity the VMs have."""
    network: str
    """The Istio network of the VMs."""
    ports: Mapping[str, int]
    """Service port names to numbers; the VMs listen on the same."""
    probe: ProbeArgs


class VmWorkload(pulumi.ComponentResource):
    """A WorkloadGroup with its account and, where it is the first of its app, its Service: ready for VMs to register."""

    labels: Mapping[str, str]
    """The labels every VM of the group has, the Service's selector among them."""
    registered: list[pulumi.Resource]
    """What has to be there before a VM joins."""

    def __init__(self, name: str, args: VmWorkloadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Register the group; no machine is made here."""
        super().__init__("istio-vms:workloads:VmWorkload", name, None, opts)
        cluster, namespace = args["cluster"], args["namespace"]
        version = args["version"]
        self.labels = {"app": args["app"], **({"version": version} if version else {})}
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
        self.registered = [account, group]
        if args["make_service"]:
            self.registered.append(self._service(f"{name}-service", args))
        self.register_outputs({})

    def _service(self, resource: str, args: VmWorkloadArgs) -> kubernetes.core.v1.Service:
        selector = {"app": args["app"]}
        return kubernetes.core.v1.Service(
            resource,
            metadata={
                "name": args["app"],
                "namespace": args["namespace"],
                "labels": selector,
                # There may be no pod to answer for it, and the provider would wait for endpoints that never come.
                "annotations": {"pulumi.com/skipAwait": "true"},
            },
            spec=kubernetes.core.v1.ServiceSpecArgs(
                selector=selector,
                ports=[
                    kubernetes.core.v1.ServicePortArgs(name=key, port=port, target_port=port)
                    for key, port in args["ports"].items()
                ],
            ),
            opts=args["cluster"].options(self),
        )


def probe_document(args: ProbeArgs) -> dict[str, object]:
    """The `probe` of a WorkloadGroup, which every member's own files repeat."""
    return {
        "periodSeconds": args["period_seconds"],
        "timeoutSeconds": args["timeout_seconds"],
        "successThreshold": args["success_threshold"],
        "failureThreshold": args["failure_threshold"],
        "httpGet": {"path": args["path"], "port": args["port"]},
    }
