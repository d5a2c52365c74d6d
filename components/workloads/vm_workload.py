"""What the mesh knows of a VM workload before any VM is there: its WorkloadGroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane
from components.names import formerly, resource_name
from components.settings import ProbeSettings


class VmWorkloadArgs(TypedDict):
    """A logical group of VMs, what a Deployment is to pods."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    namespace: pulumi.Input[str]
    namespace_name: str
    """Its name, which becomes part of the resource's."""
    workload: str
    """The name of the WorkloadGroup."""
    app: str
    """The VMs' label of that name, and the Service they belong to."""
    version: str | None
    """The VMs' label of that name; None for none."""
    service_account: str
    """Whose identity the VMs have."""
    known_by: Sequence[pulumi.Resource]
    """The account and the Service, as far as a VM has to wait for them."""
    network: str
    """The Istio network of the VMs."""
    probe: ProbeSettings
    """An HTTP readiness probe, asked by each VM's own sidecar."""


class VmWorkload(pulumi.ComponentResource):
    """A WorkloadGroup, ready for VMs to register."""

    args: VmWorkloadArgs
    """What the group was made of, which its members repeat."""
    labels: Mapping[str, str]
    """The labels every VM of the group has, the Service's selector among them."""
    registered: list[pulumi.Resource]
    """What has to be there before a VM joins."""

    def __init__(self, name: str, args: VmWorkloadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Register the group; no machine is made here."""
        super().__init__("istio-vms:workloads:VmWorkload", name, None, opts)
        self.args = args
        version, key = args["version"], (args["namespace_name"], args["workload"])
        self.labels = {"app": args["app"], **({"version": version} if version else {})}
        group = kubernetes.apiextensions.CustomResource(
            resource_name("WorkloadGroup", key),
            api_version="networking.istio.io/v1",
            kind="WorkloadGroup",
            metadata={"name": args["workload"], "namespace": args["namespace"]},
            spec={
                "metadata": {"labels": dict(self.labels)},
                "template": {"serviceAccount": args["service_account"], "network": args["network"]},
                "probe": probe_document(args["probe"]),
            },
            opts=args["cluster"].options(
                self, args["control_plane"].crds, formerly=[formerly(f"{'-'.join(key)}-group")]
            ),
        )
        self.registered = [*args["known_by"], group]
        self.register_outputs({})


def probe_document(probe: ProbeSettings) -> dict[str, object]:
    """The `probe` of a WorkloadGroup, which every member's own files repeat."""
    return {
        "periodSeconds": probe.period_seconds,
        "timeoutSeconds": probe.timeout_seconds,
        "successThreshold": probe.success_threshold,
        "failureThreshold": probe.failure_threshold,
        "httpGet": {"path": probe.path, "port": probe.port},
    }
