"""One VM as a member of the mesh: its files, its sidecar, its health."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypedDict

import pulumi

from actions.registry import JOIN, LEAVE_MESH
from components.action import run
from components.machines.machine import Machine
from components.mesh.control_plane import NAMESPACE, ControlPlane
from components.mesh.gateway import EastWestGateway
from components.mesh.readings import MeshReadings
from components.workloads.vm_workload import VmWorkload, probe_document

JOIN_SECONDS = 300


class VmMemberArgs(TypedDict):
    """Which machine joins which workload, and through which gateway."""

    machine: Machine
    workload: VmWorkload
    control_plane: ControlPlane
    gateway: EastWestGateway
    readings: pulumi.Output[MeshReadings]
    """What is the same for every VM of the mesh."""
    package_script: str
    """Shell that sees to the sidecar's package, also when its version changes later."""
    cluster_name: str
    """What istiod calls its own cluster."""
    token_seconds: int
    """How long the token of the first connection is valid; afterwards the sidecar renews its certificate by itself."""
    certificate_seconds: int
    """How long each of its certificates is valid."""
    pod_routes: bool
    """Whether the machine gets routes to the pods of every node (single-network) or reaches pods through the gateway only."""


class VmMember(pulumi.ComponentResource):
    """A machine whose sidecar is connected to istiod and whose WorkloadEntry is healthy.

    A change of the gateway's addresses, of the root certificate, of the mesh's configuration, of the workload or of the nodes it has
    routes to updates the machine in place; deleting it takes the machine out of the mesh before it goes.
    """

    workload_entry: pulumi.Output[str]
    """The name of the WorkloadEntry that istiod registered."""
    connected_at: pulumi.Output[str]
    """When the sidecar connected to istiod; another time means that it was started anew."""

    def __init__(self, name: str, args: VmMemberArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Join; done when the member is healthy."""
        super().__init__("istio-vms:workloads:VmMember", name, None, opts)
        machine, workload = args["machine"], args["workload"]
        # One `apply` over as few Outputs as can be: see `components/action.py`.
        request = pulumi.Output.all(args["readings"], machine.connection, workload.args["namespace"]).apply(
            lambda known: MappingProxyType(_request(args, *known))
        )
        joined = run(
            f"{name}-join",
            JOIN,
            request,
            pulumi.ResourceOptions(
                parent=self, depends_on=[*workload.registered, args["gateway"]], delete_before_replace=True
            ),
            delete=LEAVE_MESH,
            replace_on=[machine.resource.id],
        )
        said = pulumi.Output.unsecret(joined.result)
        self.workload_entry = said["workload_entry"]
        self.connected_at = said["connected_at"]
        self.register_outputs({"workloadEntry": self.workload_entry})


def _request(
    args: VmMemberArgs, mesh: MeshReadings, connection: Mapping[str, Any], namespace: str
) -> dict[str, object]:
    """`actions.workloads.join.JoinRequest`."""
    return {
        "kubeconfig": mesh.kubeconfig,
        "ssh": connection,
        "member": _member(args, mesh, connection["host"], namespace),
        "package_script": args["package_script"],
        "root_certificate": mesh.root_certificate,
        "node_addresses": mesh.node_addresses if args["pod_routes"] else [],
        "token_seconds": args["token_seconds"],
        "timeout_seconds": JOIN_SECONDS,
    }


def _member(args: VmMemberArgs, mesh: MeshReadings, address: str, namespace: str) -> dict[str, object]:
    """`actions.workloads.files.MemberSpec`."""
    group = args["workload"].args
    return {
        "workload": group["workload"],
        "service_account": group["service_account"],
        "labels": dict(args["workload"].labels),
        "network": group["network"],
        "cluster_id": args["cluster_name"],
        "revision": args["control_plane"].revision,
        "istiod_namespace": NAMESPACE,
        "istiod_port": args["gateway"].istiod_port,
        "probe": probe_document(group["probe"]),
        "certificate_seconds": args["certificate_seconds"],
        "namespace": namespace,
        "gateway_addresses": mesh.gateway_addresses,
        "address": address,
        "mesh_id": mesh.config["mesh_id"],
        "trust_domain": mesh.config["trust_domain"],
        "mesh_proxy_config": mesh.config["proxy_config"],
    }
