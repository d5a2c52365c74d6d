"""The tables of a stack file as they are read: which settings there are, their types and their defaults.

A field `pod_cidr` is `podCidr` in the stack file. What holds between two values is in `checks`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from components.settings.values import (
    Cidr,
    Disk,
    DnsLabel,
    DriverName,
    HostKey,
    HostName,
    HttpsUrl,
    IstioVersion,
    K3sVersion,
    LocalPath,
    Memory,
    MtlsMode,
    NamespacedName,
    PackagedComponent,
    Port,
    Revision,
    Sha256,
    matching,
)


class Table(BaseModel):
    """A table of a stack file: read-only, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Artifact(Table):
    """A file machines need: fetched from `url` and verified, or found under a mount.

    Either `url` with `sha256` (or with `checksums`, the publisher's own checksum file), or `path`, a file below one of
    `machines.mounts`, with driver `existing` a file that is on every host, with a `SHA256SUMS` beside it. `arm64` replaces the rest on
    machines of that architecture.
    """

    url: HttpsUrl | None = None
    sha256: Sha256 | None = None
    checksums: HttpsUrl | None = None
    path: LocalPath | None = None
    arm64: Artifact | None = None


class NetworkSettings(Table):
    """A network that machines are attached to. `cidr` is for drivers that make networks (nspawn)."""

    name: DnsLabel
    cidr: Cidr | None = None


class MountSettings(Table):
    """A folder of the operator's machine that every machine sees read-only."""

    source: LocalPath
    target: Annotated[str, matching(r"(/[A-Za-z0-9._-]+)+", "should be an absolute path on the machine")]


class HostSettings(Table):
    """A host someone else made, for driver `existing`."""

    host: str
    port: Port = 22
    host_key: HostKey


class MultipassSettings(Table):
    """Options of driver `multipass`. `networks` are further ones, each as `multipass launch --network` takes it.

    `snapshots` is how many are kept of those taken before a machine is resized; 0 takes none.
    """

    networks: tuple[str, ...] = ()
    timeout_seconds: Annotated[int, Field(ge=60)] = 900
    snapshots: Annotated[int, Field(ge=0, le=10)] = 0


class MachinesSettings(Table):
    """What all machines of the stack share."""

    driver: DriverName
    image: str = ""
    user: Annotated[str, matching(r"[a-z_][a-z0-9_-]{0,31}", "should be a Linux user name")] = "ubuntu"
    networks: Annotated[tuple[NetworkSettings, ...], Field(min_length=1)] = (NetworkSettings(name="default"),)
    mounts: tuple[MountSettings, ...] = ()
    private_key_file: LocalPath | None = None
    multipass: MultipassSettings = MultipassSettings()


class Sizes(Table):
    """The size of one machine, and what it boots where that is not `machines.image`."""

    image: str | None = None
    cpus: Annotated[int, Field(ge=1, le=128)] = 2
    memory: Memory = "2Gi"
    disk: Disk = "10Gi"


class NodePool(Sizes):
    """Machines of one kind in the cluster. With driver `existing`, `hosts` lists them and sets their number."""

    count: Annotated[int, Field(ge=0, le=50)] = 0
    hosts: tuple[HostSettings, ...] = ()

    @property
    def size(self) -> int:
        """How many machines the pool has."""
        return len(self.hosts) or self.count


class ClusterSettings(Table):
    """The k3s cluster. Traefik is off and ServiceLB on, always. `endpoint` is what stands in front of several servers."""

    version: K3sVersion
    endpoint: HostName | None = None
    binary: Artifact
    tools: Artifact | None = None
    images: tuple[Artifact, ...] = ()
    network: DnsLabel = "default"
    pod_cidr: Cidr = "10.42.0.0/16"
    service_cidr: Cidr = "10.43.0.0/16"
    servers: NodePool = NodePool(count=1, memory="3Gi")
    agents: NodePool = NodePool(count=2)
    disable: tuple[PackagedComponent, ...] = ()
    config: dict[str, Any] = {}
    service_options: dict[str, str] = {}
    containerd_template: str = ""

    @property
    def pools(self) -> dict[str, NodePool]:
        """The pools of machines by their setting's name, servers first."""
        return {"servers": self.servers, "agents": self.agents}


class KubeconfigSettings(Table):
    """A Kubernetes cluster that someone else made: a context of a kubeconfig, which has to be named, as the current one changes."""

    kubeconfig: Annotated[LocalPath, Field(validate_default=True)] = "~/.kube/config"
    context: Annotated[str, Field(min_length=1)]


class ExistingClusterSettings(Table):
    """An existing cluster instead of k3s. `network` is the machine network that its nodes are reached in, for VMs with routes to pods."""

    existing: KubeconfigSettings
    network: DnsLabel = "default"

    @property
    def pools(self) -> dict[str, NodePool]:
        """None: the machines of its nodes are not the stack's."""
        return {}


AnyCluster = ClusterSettings | ExistingClusterSettings


class ProtectionSettings(Table):
    """What `make down` and a replacement are refused for: machines, and the control plane (Kubernetes' servers and Istio's istiod)."""

    machines: bool = False
    control_plane: bool = False


class ChartSource(Table):
    """Where Istio's Helm charts come from: a repository, or a local folder with one chart per sub-folder."""

    repository: Annotated[str, matching(r"(https|oci)://\S+", "should be an https:// or oci:// URL")] | None = None
    directory: LocalPath | None = None


class ChartValues(Table):
    """Helm values merged over ours, per chart."""

    base: dict[str, Any] = {}
    istiod: dict[str, Any] = {}
    gateway: dict[str, Any] = {}


class IngressPorts(Table):
    """Ports of the ingress gateway's Service."""

    status: Port = 15021
    http: Port = 80
    https: Port = 443


class EastWestPorts(Table):
    """Ports of the east-west gateway's Service.

    Shifted by default: on ServiceLB both gateways share the nodes' ports, and 15021, 15012 and 15017 are taken or expected elsewhere.
    """

    status: Port = 15022
    services: Port = 15443
    istiod: Port = 15013
    webhook: Port = 15018


class MeshSettings(Table):
    """The Istio control plane and its gateways.

    `namespaces` are further ones whose pods get a sidecar, besides those of workloads and samples. `exposed_services` are the Services,
    `namespace/name` each, that other networks reach through the east-west gateway; istiod always is.
    """

    version: IstioVersion
    revision: Revision
    charts: ChartSource
    hub: str | None = None
    tag: str | None = None
    mesh_id: DnsLabel = "mesh1"
    cluster_name: DnsLabel = "cluster1"
    network: DnsLabel = "cluster-network"
    trust_domain: str = "cluster.local"
    values: ChartValues = ChartValues()
    ingress_ports: IngressPorts = IngressPorts()
    east_west_ports: EastWestPorts = EastWestPorts()
    namespaces: tuple[DnsLabel, ...] = ()
    exposed_services: tuple[NamespacedName, ...] = ()
    sidecar_package: Artifact


class ServicePort(Table):
    """A port of the workload's Service. Istio reads the protocol from the name: `http`, `http-web`, `tcp-db`."""

    name: Annotated[
        str,
        matching(
            r"(http2?|https|grpc|tcp|tls|mongo|mysql|redis)(-[a-z0-9-]*[a-z0-9])?", "should begin with a protocol"
        ),
    ]
    port: Port


class ProbeSettings(Table):
    """The HTTP readiness probe of a WorkloadGroup. Times are seconds."""

    path: Annotated[str, matching(r"/\S*", "should begin with /")] = "/"
    port: Port
    period_seconds: Annotated[int, Field(ge=1, le=300)] = 2
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 1
    success_threshold: Annotated[int, Field(ge=1, le=10)] = 1
    failure_threshold: Annotated[int, Field(ge=1, le=10)] = 2


class VmSettings(Sizes):
    """One virtual machine of a workload. `network` is the machine network it is attached to."""

    name: DnsLabel
    network: DnsLabel = "default"
    cpus: Annotated[int, Field(ge=1, le=128)] = 1
    memory: Memory = "1Gi"
    existing: HostSettings | None = None


class WorkloadSettings(Table):
    """A WorkloadGroup with its Service and the virtual machines in it.

    `network` is the Istio network of those VMs: the mesh's own (`mesh.network`) for VMs with routes to pods (single-network), any other for
    VMs that reach pods through the east-west gateway only (multi-network). `app` is the label of that name, by default the workload's own
    name; with another one the VMs belong to the Service of that name, which pods may be in too. `version` is the label of that name.
    `token_seconds` is how long the token of the first connection is valid, `certificate_seconds` how long each certificate is.
    """

    name: DnsLabel
    namespace: DnsLabel
    service_account: DnsLabel
    app: DnsLabel | None = None
    version: DnsLabel | None = None
    network: DnsLabel = "vm-network"
    ports: Annotated[tuple[ServicePort, ...], Field(min_length=1)]
    probe: ProbeSettings
    token_seconds: Annotated[int, Field(ge=600, le=86400)] = 3600
    certificate_seconds: Annotated[int, Field(ge=30, le=90 * 86400)] = 86400
    application: Literal["sample", "none"] = "sample"
    vms: tuple[VmSettings, ...] = ()

    @property
    def service(self) -> str:
        """The Service that the VMs belong to."""
        return self.app or self.name


class SampleSettings(Table):
    """What proves traffic: the helloworld sample and pods to call from. Off means `up` proves health only.

    `namespace` has helloworld and two clients of the mesh; `<namespace>-guarded` and `<namespace>-outside` have clients too, the latter
    without sidecars.
    """

    enabled: bool = False
    namespace: DnsLabel = "sample"
    helloworld_images: dict[Literal["v1", "v2"], str] = {
        "v1": "docker.io/istio/examples-helloworld-v1:1.0",
        "v2": "docker.io/istio/examples-helloworld-v2:1.0",
    }
    client_image: str = "docker.io/curlimages/curl:8.16.0"


class AuthorizationSettings(Table):
    """Who may call an application, pods and VMs alike; everyone else gets 403.

    `app` is the label of that name; `allow` are service accounts, `namespace/name` each.
    """

    name: DnsLabel
    namespace: DnsLabel
    app: DnsLabel
    allow: Annotated[tuple[NamespacedName, ...], Field(min_length=1)]


class EgressGuardSettings(Table):
    """A namespace whose pods cannot reach VMs: those of `workloads`, `namespace/name` each, or every VM where there are none."""

    namespace: DnsLabel
    workloads: tuple[NamespacedName, ...] = ()


class PolicySettings(Table):
    """Who may talk to whom, and how. `namespace_mtls` overrules `mtls`, which is the mesh's, for one namespace each."""

    mtls: MtlsMode = MtlsMode.STRICT
    namespace_mtls: dict[DnsLabel, MtlsMode] = {}
    authorization: tuple[AuthorizationSettings, ...] = ()
    egress_guards: tuple[EgressGuardSettings, ...] = ()


class TelemetrySettings(Table):
    """Access logs of the sidecars by Istio's Telemetry API: of the whole mesh, or of some namespaces."""

    access_logs: Literal["off", "mesh", "namespaces"] = "off"
    namespaces: tuple[DnsLabel, ...] = ()


class RetrySettings(Table):
    """What a caller's sidecar does about a failed call: how often it tries again, and how long it waits for each try."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    per_try_seconds: Annotated[int, Field(ge=1, le=300)] = 2


class OutlierSettings(Table):
    """When an endpoint is left out for a while: after so many server errors in a row."""

    consecutive_errors: Annotated[int, Field(ge=1, le=100)] = 3
    interval_seconds: Annotated[int, Field(ge=1, le=300)] = 1
    ejection_seconds: Annotated[int, Field(ge=1, le=3600)] = 10


class RouteSettings(Table):
    """Where requests go: to each version its share in percent. Those with all of `headers`; without any, all that are left."""

    headers: dict[
        Annotated[str, matching(r"[a-z0-9-]+", "should be a header's name in lower case")],
        Annotated[str, matching(r"[ -~]+", "should be printable ASCII")],
    ] = {}
    shares: Annotated[dict[DnsLabel, Annotated[int, Field(ge=0, le=100)]], Field(min_length=1)]


class TrafficSettings(Table):
    """How the calls of a Service are divided between versions (the label `version`), on pods and VMs alike.

    `service` is one of the stack's own Services; with `app` and `port` it is made, over everything of that app. Without `routes` every
    call goes to any endpoint. `outliers` has versions; `retries` counts for every route.
    """

    service: DnsLabel
    namespace: DnsLabel
    app: DnsLabel | None = None
    port: ServicePort | None = None
    versions: Annotated[tuple[DnsLabel, ...], Field(min_length=1)]
    routes: tuple[RouteSettings, ...] = ()
    retries: RetrySettings | None = None
    outliers: dict[DnsLabel, OutlierSettings] = {}
