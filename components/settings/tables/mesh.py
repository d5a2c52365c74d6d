"""Istio: the control plane, its charts and its gateways."""

from typing import Annotated, Any

from pydantic import Field

from components.settings.tables.base import Table, WhenUnset
from components.settings.tables.machines import Artifact
from components.settings.values import DnsLabel, IstioVersion, LocalPath, NamespacedName, Port, Revision, matching


class ChartSource(Table):
    """Where Istio's Helm charts come from: a repository, or a local folder."""

    repository: Annotated[str, matching(r"(https|oci)://\S+", "should be an https:// or oci:// URL")] | None = Field(
        default=None, description="URL of a chart repository, `https://…` or `oci://…`"
    )
    directory: LocalPath | None = Field(
        default=None, description="folder such as `~/…` with one chart per sub-folder, instead of `repository`"
    )


class ChartValues(Table):
    """Helm values merged over ours, per chart."""

    base: dict[str, Any] = Field(default={}, description="values of chart `base`")
    istiod: dict[str, Any] = Field(default={}, description="values of chart `istiod`")
    gateway: dict[str, Any] = Field(default={}, description="values of chart `gateway`, for both gateways")


class IngressPorts(Table):
    """Ports of the ingress gateway's Service."""

    status: Port = Field(default=15021, description="health of the gateway")
    http: Port = Field(default=80, description="HTTP")
    https: Port = Field(default=443, description="HTTPS")


class EastWestPorts(Table):
    """Ports of the east-west gateway's Service.

    Shifted by default: on ServiceLB both gateways share the nodes' ports, and 15021, 15012 and 15017 are taken or
    expected elsewhere.
    """

    status: Port = Field(default=15022, description="health of the gateway, elsewhere 15021")
    services: Port = Field(default=15443, description="exposed Services, by SNI")
    istiod: Port = Field(default=15013, description="istiod, elsewhere 15012")
    webhook: Port = Field(default=15018, description="istiod's webhook, elsewhere 15017")


class MeshSettings(Table):
    """Istio: the control plane and its gateways."""

    version: IstioVersion = Field(
        description="release of the charts; from 1.30 on, whose gateway chart can shift ports"
    )
    revision: Revision = Field(
        description="istiod's revision, such as `1-30-3`; also the default one. Another one is "
        "[another istiod](design.md#another-revision-of-istio), to which everything moves while calls go on"
    )
    charts: ChartSource = Field(description="source of Istio's Helm charts: `repository` or `directory`")
    hub: Annotated[str | None, WhenUnset("the charts'")] = Field(
        default=None, description="hub that images come from, such as `docker.io/istio`"
    )
    tag: Annotated[str | None, WhenUnset("the charts'")] = Field(default=None, description="tag of the images")
    mesh_id: DnsLabel = Field(default="mesh1", description="what istiod calls the mesh")
    cluster_name: DnsLabel = Field(default="cluster1", description="what istiod calls this cluster")
    network: DnsLabel = Field(default="cluster-network", description="Istio network of the pods")
    trust_domain: str = Field(default="cluster.local", description="trust domain of every SPIFFE identity")
    values: ChartValues = Field(
        default=ChartValues(),
        description="Helm values merged over ours, per chart. Revisions, and which one is the default, are left to "
        "`revision`",
    )
    ingress_ports: IngressPorts = Field(default=IngressPorts(), description="ports of the ingress gateway's Service")
    east_west_ports: EastWestPorts = Field(
        default=EastWestPorts(),
        description="ports of the east-west gateway's Service. Everything that names them, VMs included, follows",
    )
    namespaces: tuple[DnsLabel, ...] = Field(
        default=(),
        description="further namespaces whose pods get a sidecar, for what you deploy yourself. "
        "Those of workloads and samples have one anyway",
    )
    exposed_services: tuple[NamespacedName, ...] = Field(
        default=(),
        description="Services, `namespace/name` each, that multi-network VMs reach through the east-west gateway; "
        "any other is out of their reach",
    )
    sidecar_package: Artifact = Field(description="[artifact](#artifacts): the `istio-sidecar` Debian package for VMs")
