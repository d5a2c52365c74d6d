"""Istio on the cluster: the control plane, its gateways, and the namespaces whose pods are in the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.cluster.access import ClusterAccess
from components.mesh.charts import Charts
from components.mesh.control_plane import ControlPlane
from components.mesh.gateway import EastWestGateway, IngressGateway
from components.mesh.namespaces import MeshNamespaces
from components.settings import Settings


@dataclass(frozen=True)
class Mesh:
    """The control plane, its gateways and its namespaces."""

    control_plane: ControlPlane
    ingress: IngressGateway
    east_west: EastWestGateway
    namespaces: MeshNamespaces

    def exports(self) -> dict[str, Any]:
        """Addresses and ports of each gateway."""
        gateways = {"ingress": self.ingress, "eastWest": self.east_west}
        return {name: {"addresses": g.addresses, "ports": dict(g.ports)} for name, g in gateways.items()}


def mesh(settings: Settings, access: ClusterAccess) -> Mesh:
    """Install it."""
    wanted = settings.mesh
    charts = Charts(version=wanted.version, directory=wanted.charts.directory, repository=wanted.charts.repository)
    control_plane = ControlPlane(
        "istio",
        {
            "cluster": access,
            "charts": charts,
            "revision": wanted.revision,
            "mesh_id": wanted.mesh_id,
            "cluster_name": wanted.cluster_name,
            "network": wanted.network,
            "trust_domain": wanted.trust_domain,
            "hub": wanted.hub,
            "tag": wanted.tag,
            "base_values": wanted.values.base,
            "istiod_values": wanted.values.istiod,
            "protect": settings.protection.control_plane,
        },
    )
    ingress = IngressGateway(
        "istio-ingressgateway",
        {
            "cluster": access,
            "charts": charts,
            "control_plane": control_plane,
            "values": wanted.values.gateway,
            "ports": wanted.ingress_ports,
        },
    )
    east_west = EastWestGateway(
        "istio-eastwestgateway",
        {
            "cluster": access,
            "charts": charts,
            "control_plane": control_plane,
            "values": wanted.values.gateway,
            "ports": wanted.east_west_ports,
            "network": wanted.network,
            "exposed": wanted.exposed_services,
        },
    )
    namespaces = MeshNamespaces(
        "namespaces",
        {
            "cluster": access,
            "control_plane": control_plane,
            "in_mesh": settings.namespaces(),
            "outside": [settings.outside_namespace] if settings.outside_namespace else [],
        },
    )
    return Mesh(control_plane, ingress, east_west, namespaces)
