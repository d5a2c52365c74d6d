"""One VM as a member of the mesh: its files, its sidecar, its health."""

from __future__ import annotations

from typing import Any, TypedDict

import pulumi

from actions.mesh.published import MeshConfig
from actions.registry import JOIN, LEAVE_MESH
from components.action import run
from components.machines.machine import Machine
from components.mesh.control_plane import NAMESPACE, ControlPlane
from components.mesh.gateway import EastWestGateway
from components.workloads.vm_workload import VmWorkload, probe_document

JOIN_SECONDS = 300


class MeshReadings(TypedDict):
    """What a VM is told of the mesh; `components.mesh.readings` reads it."""

    root_certificate: pulumi.Input[str]
    """PEM."""
    config: pulumi.Input[MeshConfig]


class VmMemberArgs(TypedDict):
    """Which machine joins which workload, and through which gateway."""

    machine: Machine
    workload: VmWorkload
    control_plane: ControlPlane
    gateway: EastWestGateway
    readings: MeshReadings
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
        machine, workload, gateway = args["machine"], args["workload"], args["gateway"]
        cluster = workload.args["cluster"]
        joined = run(
            f"{name}-join",
            JOIN,
            {
                "kubeconfig": cluster.kubeconfig,
                "ssh": machine.connection,
                "member": self._member(args),
                "package_script": args["package_script"],
                "root_certificate": args["readings"]["root_certificate"],
                "node_addresses": cluster.node_addresses if args["pod_routes"] else [],
                "token_seconds": args["token_seconds"],
                "timeout_seconds": JOIN_SECONDS,
            },
            pulumi.ResourceOptions(parent=self, depends_on=[*workload.registered, gateway], delete_before_replace=True),
            delete=LEAVE_MESH,
            replace_on=[machine.resource.id],
        )
        said = pulumi.Output.unsecret(joined.result)
        self.workload_entry = said["workload_entry"]
        self.connected_at = said["connected_at"]
        self.register_outputs({"workloadEntry": self.workload_entry})

    @staticmethod
    def _member(args: VmMemberArgs) -> pulumi.Output[dict[str, object]]:
        """`actions.workloads.files.MemberSpec`: what is settled, and what is not known before the mesh is there."""
        group = args["workload"].args
        settled: dict[str, object] = {
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
        }
        # The SDK's work grows with the square of the number of Outputs, and it makes one of each value in a document that has any.
        return pulumi.Output.all(
            namespace=group["namespace"],
            gateway_addresses=args["gateway"].addresses,
            address=args["machine"].address,
            mesh=args["readings"]["config"],
        ).apply(lambda known: settled | _told(known))


def _told(known: dict[str, Any]) -> dict[str, object]:
    mesh: dict[str, Any] = known["mesh"]
    places = {key: known[key] for key in ("namespace", "gateway_addresses", "address")}
    return {
        **places,
        "mesh_id": mesh["mesh_id"],
        "trust_domain": mesh["trust_domain"],
        "mesh_proxy_config": mesh["proxy_config"],
    }
