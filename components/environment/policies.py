"""Who may talk to whom, how calls are divided, and what is logged."""

from __future__ import annotations

import pulumi

from components.cluster.access import ClusterAccess
from components.environment.mesh import Mesh
from components.environment.workloads import Workloads
from components.mesh.egress_guard import EgressGuards
from components.mesh.policies import MeshPolicies
from components.mesh.telemetry import access_logs
from components.mesh.traffic import TrafficRouting
from components.names import formerly
from components.settings import EgressGuardSettings, Settings, TrafficSettings


def policies(settings: Settings, access: ClusterAccess, in_mesh: Mesh, made: Workloads) -> list[pulumi.Resource]:
    """Apply them; what traffic has to wait for."""
    wanted, control_plane, namespaces = settings.policies, in_mesh.control_plane, in_mesh.namespaces.by_name
    who = MeshPolicies(
        "policies",
        {
            "cluster": access,
            "control_plane": control_plane,
            "namespaces": namespaces,
            "trust_domain": settings.mesh.trust_domain,
            "mtls": wanted.mtls,
            "namespace_mtls": wanted.namespace_mtls,
            "authorization": wanted.authorization,
        },
    )
    guards = EgressGuards(
        "egress-guards",
        {
            "cluster": access,
            "namespaces": namespaces,
            "guards": {guard.namespace: _addresses(settings, made, guard) for guard in wanted.egress_guards},
        },
    )
    _log(settings, access, in_mesh)
    return [who, guards, *(_traffic(traffic, access, in_mesh) for traffic in settings.traffic)]


def _addresses(settings: Settings, made: Workloads, guard: EgressGuardSettings) -> list[pulumi.Output[str]]:
    """Those of the VMs that a guard is about."""
    return [
        made.machines.vms[vm.name].address
        for workload in settings.workloads
        if not guard.workloads or f"{workload.namespace}/{workload.name}" in guard.workloads
        for vm in workload.vms
    ]


def _log(settings: Settings, access: ClusterAccess, in_mesh: Mesh) -> None:
    wanted = settings.telemetry
    if wanted.access_logs == "mesh":
        access_logs("access-logs", access, in_mesh.control_plane, None)
    elif wanted.access_logs == "namespaces":
        chosen = {name: in_mesh.namespaces.by_name[name] for name in wanted.namespaces}
        access_logs("access-logs", access, in_mesh.control_plane, chosen)


def _traffic(wanted: TrafficSettings, access: ClusterAccess, in_mesh: Mesh) -> TrafficRouting:
    return TrafficRouting(
        f"traffic/{wanted.namespace}/{wanted.service}",
        {
            "cluster": access,
            "control_plane": in_mesh.control_plane,
            "namespace": in_mesh.namespaces.by_name[wanted.namespace],
            "namespace_name": wanted.namespace,
            "service": wanted.service,
            "versions": wanted.versions,
            "routes": wanted.routes,
            "retries": wanted.retries,
            "outliers": wanted.outliers,
        },
        pulumi.ResourceOptions(aliases=[formerly(f"traffic-{wanted.namespace}-{wanted.service}")]),
    )
