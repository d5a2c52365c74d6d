"""Samples, and calls between them and every VM."""

from __future__ import annotations

import pulumi

from components.cluster.access import ClusterAccess
from components.environment import applications
from components.environment.mesh import Mesh
from components.environment.workloads import Workloads
from components.samples.helloworld import Helloworld
from components.samples.proof_of_traffic import Call, ProofOfTraffic
from components.settings import Settings


def proof(
    settings: Settings, access: ClusterAccess, in_mesh: Mesh, made: Workloads, applied: list[pulumi.Resource]
) -> pulumi.Output[str] | None:
    """What the calls showed, made once the policies are applied; None where the stack has no samples or no VMs."""
    namespaces = applications.sample_namespaces(settings)
    if namespaces is None:
        return None
    samples = Helloworld(
        "helloworld",
        {
            "cluster": access,
            "control_plane": in_mesh.control_plane,
            "sample_namespaces": namespaces,
            "namespaces": in_mesh.namespaces.by_name,
            "accounts": made.accounts,
            "images": {str(version): image for version, image in settings.samples.helloworld_images.items()},
            "client_image": settings.samples.client_image,
        },
    )
    calls = _calls(settings, made)
    if not calls:
        return None
    return ProofOfTraffic(
        "proof",
        {"cluster": access, "samples": samples, "namespace": settings.samples.namespace, "calls": calls},
        pulumi.ResourceOptions(depends_on=[*applied, *made.services.values(), made.injected]),
    ).evidence


def _calls(settings: Settings, made: Workloads) -> list[Call]:
    return [
        {
            "machine": made.machines.vms[vm.name],
            "member": made.members[vm.name],
            "service_url": f"http://{workload.service}.{workload.namespace}.svc:{workload.probe.port}",
        }
        for workload in settings.workloads
        if workload.application == "sample"
        for vm in workload.vms
    ]
