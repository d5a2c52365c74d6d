"""The cluster: k3s on its machines, or an existing one."""

from __future__ import annotations

from actions.cluster import kubeconfig
from components.cluster.access import ClusterAccess
from components.cluster.existing import ExistingCluster
from components.cluster.k3s import K3sCluster
from components.environment.artifacts import machine_artifact
from components.environment.machines import Machines
from components.machines.machine import SshKey
from components.mesh.control_plane import NAMESPACE
from components.settings import ExistingClusterSettings, Settings


def cluster(settings: Settings, machines: Machines, key: SshKey) -> ClusterAccess:
    """How the other layers work with it."""
    wanted = settings.cluster
    if isinstance(wanted, ExistingClusterSettings):
        return _existing_cluster(settings, wanted)
    return K3sCluster(
        "cluster",
        {
            "servers": machines.servers,
            "agents": machines.agents,
            "token": key.token,
            "protect": settings.protection.control_plane,
            "version": wanted.version,
            "endpoint": wanted.endpoint,
            "binary": machine_artifact(settings.machines, wanted.binary),
            "tools": machine_artifact(settings.machines, wanted.tools) if wanted.tools else None,
            "images": [machine_artifact(settings.machines, image) for image in wanted.images],
            "pod_cidr": wanted.pod_cidr,
            "service_cidr": wanted.service_cidr,
            "disable": wanted.disable,
            "config": wanted.config,
            "service_options": wanted.service_options,
            "containerd_template": wanted.containerd_template,
        },
    ).access


def _existing_cluster(settings: Settings, wanted: ExistingClusterSettings) -> ClusterAccess:
    """Reading settings has seen to it that the kubeconfig can be read, but for a preview."""
    try:
        found = kubeconfig.read(wanted.existing.kubeconfig, wanted.existing.context)
    except kubeconfig.KubeconfigError:
        found = None
    namespaces = {NAMESPACE, *settings.namespaces()}
    if settings.outside_namespace:
        namespaces.add(settings.outside_namespace)
    return ExistingCluster(
        "cluster",
        {
            "kubeconfig": found,
            "context": wanted.existing.context,
            "owner": settings.owner,
            "namespaces": sorted(namespaces),
        },
    ).access
