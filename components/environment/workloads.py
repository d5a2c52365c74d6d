"""VM workloads: their groups, the VMs that join them, and what they share with the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from actions.artifacts import install_deb_script
from components.cluster.access import ClusterAccess
from components.environment import applications
from components.environment.artifacts import machine_artifact
from components.environment.machines import SIDECAR_PACKAGE, Machines
from components.environment.mesh import Mesh
from components.mesh.readings import MeshReadings, read_mesh
from components.mesh.reinjection import reinjection
from components.names import Key, formerly
from components.settings import DriverName, Settings, WorkloadSettings
from components.workloads.applications import make_accounts, make_services
from components.workloads.vm_member import VmMember
from components.workloads.vm_workload import VmWorkload


@dataclass(frozen=True)
class Workloads:
    """The members of the mesh that are VMs, and the Services and accounts that they may share with pods."""

    settings: Settings
    machines: Machines
    services: Mapping[Key, kubernetes.core.v1.Service]
    accounts: Mapping[Key, kubernetes.core.v1.ServiceAccount]
    injected: pulumi.Resource
    """Done when every pod of the mesh has a sidecar of its revision."""
    members: dict[str, VmMember] = field(default_factory=dict[str, VmMember])
    """By the names that the settings give their VMs."""

    def exports(self) -> dict[str, Any]:
        """For each VM: its address, its WorkloadEntry, and how to get a shell on it."""
        return {
            self.machines.vms[vm.name].machine_name: {
                "address": self.machines.vms[vm.name].address,
                "namespace": workload.namespace,
                "workloadEntry": self.members[vm.name].workload_entry,
                "ssh": f"make ssh STACK={self.settings.stack} VM={vm.name}",
            }
            for workload in self.settings.workloads
            for vm in workload.vms
        }


def workloads(settings: Settings, machines: Machines, access: ClusterAccess, in_mesh: Mesh) -> Workloads:
    """Register the groups and let the VMs join."""
    services, namespaces = applications.services(settings), in_mesh.namespaces.by_name
    made = Workloads(
        settings,
        machines,
        make_services(access, namespaces, services),
        make_accounts(access, namespaces, applications.accounts(settings)),
        reinjection("reinjection", access, in_mesh.control_plane, in_mesh.namespaces.in_mesh),
    )
    if not settings.workloads:
        return made
    readings = read_mesh(access, in_mesh.control_plane, in_mesh.east_west)
    for workload in settings.workloads:
        # A Service with pods is there once they are, and a VM need not wait for them.
        pods = services[workload.namespace, workload.service]["pods"]
        group = _group(workload, access, in_mesh, made, has_pods=pods)
        for vm in workload.vms:
            made.members[vm.name] = _member(vm.name, workload, settings, made, in_mesh, group, readings)
    return made


def _group(
    workload: WorkloadSettings, access: ClusterAccess, in_mesh: Mesh, made: Workloads, *, has_pods: bool
) -> VmWorkload:
    known_by: list[pulumi.Resource] = [made.accounts[workload.namespace, workload.service_account]]
    if not has_pods:
        known_by.append(made.services[workload.namespace, workload.service])
    return VmWorkload(
        f"{workload.namespace}/{workload.name}",
        {
            "cluster": access,
            "control_plane": in_mesh.control_plane,
            "namespace": in_mesh.namespaces.by_name[workload.namespace],
            "namespace_name": workload.namespace,
            "workload": workload.name,
            "app": workload.service,
            "version": workload.version,
            "service_account": workload.service_account,
            "network": workload.network,
            "probe": workload.probe,
            "known_by": known_by,
        },
        pulumi.ResourceOptions(aliases=[formerly(f"{workload.namespace}-{workload.name}")]),
    )


def _member(
    name: str,
    workload: WorkloadSettings,
    settings: Settings,
    made: Workloads,
    in_mesh: Mesh,
    group: VmWorkload,
    readings: pulumi.Output[MeshReadings],
) -> VmMember:
    package = machine_artifact(settings.machines, settings.mesh.sidecar_package)
    existing = settings.machines.driver is DriverName.EXISTING
    return VmMember(
        name,
        {
            "machine": made.machines.vms[name],
            "workload": group,
            "control_plane": in_mesh.control_plane,
            "gateway": in_mesh.east_west,
            "readings": readings,
            "package_script": install_deb_script(package, SIDECAR_PACKAGE, existing=existing),
            "cluster_name": settings.mesh.cluster_name,
            "token_seconds": workload.token_seconds,
            "certificate_seconds": workload.certificate_seconds,
            "pod_routes": workload.network == settings.mesh.network,
        },
    )
