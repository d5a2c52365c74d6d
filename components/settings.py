"""The settings of a stack: the only reader of `pulumi.Config`, typed and validated as a whole.

`load()` either returns `Settings` or raises `SettingsError`, which names every error at once: its config path, the value (unless
the setting is a secret) and what would be right. Nothing is registered with Pulumi before that.

Keys in the stack file are camelCase; `Pulumi.yaml` lists the same tables with their descriptions.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pulumi
from pulumi.runtime import config as runtime_config
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

PROJECT = "istio-vms"

# ------------------------------------------------------------------------------------------------- values


def _matching(pattern: str, what: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(what)
        return value

    return AfterValidator(check)


def _cidr(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"should be an IPv4 network such as 10.89.0.0/24 ({error})") from None
    if network.prefixlen > 28:
        raise ValueError("should have room for machines: a prefix of /28 or shorter")
    return value


def _quantity(minimum_mib: int) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(r"[1-9]\d*(Mi|Gi)", value):
            raise ValueError("should be a whole number of Mi or Gi, such as 2Gi")
        if mib(value) < minimum_mib:
            raise ValueError(f"should be at least {minimum_mib}Mi")
        return value

    return AfterValidator(check)


def mib(quantity: str) -> int:
    """MiB of a quantity of whole Mi or Gi: 2048 for `2Gi`."""
    number = int(quantity[:-2])
    return number * 1024 if quantity.endswith("Gi") else number


def _expand(value: str) -> str:
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise ValueError("should be an absolute path or begin with ~/")
    return str(path)


DnsLabel = Annotated[
    str,
    _matching(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "should be a DNS label: a-z, 0-9 and -, from 1 to 40 characters"),
]
"""A name both Kubernetes and every driver accept, short enough to take a stack's name in front."""
Revision = Annotated[
    str,
    _matching(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", "should be made of a-z, 0-9 and -, such as 1-30-3"),
]
"""An Istio revision: part of istiod's name, so it may begin with a digit."""
K3sVersion = Annotated[
    str,
    _matching(r"v1\.(2[89]|3\d)\.\d+\+k3s\d+", "should be a k3s release from v1.28 on in full, such as v1.32.0+k3s1"),
]
IstioVersion = Annotated[
    str,
    _matching(
        r"1\.(3\d|[4-9]\d)(\.\d+|-alpha\.[0-9a-f.]+)",
        "should be an Istio release from 1.30 on, whose gateway chart has networkGatewayPorts, such as 1.30.3",
    ),
]
Sha256 = Annotated[str, _matching(r"[0-9a-f]{64}", "should be 64 hexadecimal digits")]
HttpsUrl = Annotated[str, _matching(r"https://\S+", "should be an https:// URL")]
HostKey = Annotated[
    str,
    _matching(
        r"(ssh-ed25519|ecdsa-sha2-\S+|ssh-rsa) [A-Za-z0-9+/=]+",
        "should be a public host key as in known_hosts: type and base64, such as `ssh-ed25519 AAAA…`",
    ),
]
LocalPath = Annotated[str, AfterValidator(_expand)]
Cidr = Annotated[str, AfterValidator(_cidr)]
Port = Annotated[int, Field(ge=1, le=65535)]
Memory = Annotated[str, _quantity(512)]
Disk = Annotated[str, _quantity(5 * 1024)]


class DriverName(StrEnum):
    """How machines come to exist."""

    NSPAWN = "nspawn"
    MULTIPASS = "multipass"
    EXISTING = "existing"


# ------------------------------------------------------------------------------------------------- models


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Artifact(_Table):
    """A file machines need: fetched from `url` and verified, or found under a mount.

    Either `url` with `sha256` (or with `checksums`, the publisher's own checksum file), or `path`, a file below one of
    `machines.mounts` with a `SHA256SUMS` beside it. `arm64` replaces the rest on machines of that architecture.
    """

    url: HttpsUrl | None = None
    sha256: Sha256 | None = None
    checksums: HttpsUrl | None = None
    path: LocalPath | None = None
    arm64: Artifact | None = None


class NetworkSettings(_Table):
    """A network that machines are attached to. `cidr` is for drivers that make networks (nspawn)."""

    name: DnsLabel
    cidr: Cidr | None = None


class MountSettings(_Table):
    """A folder of the operator's machine that every machine sees read-only."""

    source: LocalPath
    target: Annotated[str, _matching(r"(/[A-Za-z0-9._-]+)+", "should be an absolute path on the machine")]


class HostSettings(_Table):
    """A host someone else made, for driver `existing`."""

    host: str
    port: Port = 22
    host_key: HostKey


class MultipassSettings(_Table):
    """Options of driver `multipass`. `networks` are further ones, each as `multipass launch --network` takes it."""

    networks: tuple[str, ...] = ()
    timeout_seconds: Annotated[int, Field(ge=60)] = 900


class MachinesSettings(_Table):
    """What all machines of the stack share."""

    driver: DriverName
    image: str = ""
    user: Annotated[str, _matching(r"[a-z_][a-z0-9_-]{0,31}", "should be a Linux user name")] = "ubuntu"
    networks: Annotated[tuple[NetworkSettings, ...], Field(min_length=1)] = (NetworkSettings(name="default"),)
    mounts: tuple[MountSettings, ...] = ()
    private_key_file: LocalPath | None = None
    multipass: MultipassSettings = MultipassSettings()


class Sizes(_Table):
    """The size of one machine."""

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


class ClusterSettings(_Table):
    """The k3s cluster. Traefik is off and ServiceLB on, always."""

    version: K3sVersion
    binary: Artifact
    tools: Artifact | None = None
    images: tuple[Artifact, ...] = ()
    network: DnsLabel = "default"
    pod_cidr: Cidr = "10.42.0.0/16"
    service_cidr: Cidr = "10.43.0.0/16"
    servers: NodePool = NodePool(count=1, memory="3Gi")
    agents: NodePool = NodePool(count=2)
    disable: tuple[Literal["metrics-server", "local-storage", "coredns"], ...] = ()
    config: dict[str, Any] = {}
    service_options: dict[str, str] = {}
    containerd_template: str = ""


class ChartSource(_Table):
    """Where Istio's Helm charts come from: a repository, or a local folder with one chart per sub-folder."""

    repository: Annotated[str, _matching(r"(https|oci)://\S+", "should be an https:// or oci:// URL")] | None = None
    directory: LocalPath | None = None


class ChartValues(_Table):
    """Helm values merged over ours, per chart."""

    base: dict[str, Any] = {}
    istiod: dict[str, Any] = {}
    gateway: dict[str, Any] = {}


class IngressPorts(_Table):
    """Ports of the ingress gateway's Service."""

    status: Port = 15021
    http: Port = 80
    https: Port = 443


class EastWestPorts(_Table):
    """Ports of the east-west gateway's Service.

    Shifted by default: on ServiceLB both gateways share the nodes' ports, and 15021, 15012 and 15017 are taken or expected elsewhere.
    """

    status: Port = 15022
    services: Port = 15443
    istiod: Port = 15013
    webhook: Port = 15018


class MeshSettings(_Table):
    """The Istio control plane and its gateways."""

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
    sidecar_package: Artifact


class ServicePort(_Table):
    """A port of the workload's Service. Istio reads the protocol from the name: `http`, `http-web`, `tcp-db`."""

    name: Annotated[
        str,
        _matching(
            r"(http2?|https|grpc|tcp|tls|mongo|mysql|redis)(-[a-z0-9-]*[a-z0-9])?", "should begin with a protocol"
        ),
    ]
    port: Port


class ProbeSettings(_Table):
    """The HTTP readiness probe of a WorkloadGroup. Times are seconds."""

    path: Annotated[str, _matching(r"/\S*", "should begin with /")] = "/"
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


class WorkloadSettings(_Table):
    """A WorkloadGroup with its Service and the virtual machines in it. `network` is the Istio network of those VMs."""

    name: DnsLabel
    namespace: DnsLabel
    service_account: DnsLabel
    network: DnsLabel = "vm-network"
    ports: Annotated[tuple[ServicePort, ...], Field(min_length=1)]
    probe: ProbeSettings
    token_seconds: Annotated[int, Field(ge=600, le=86400)] = 3600
    application: Literal["sample", "none"] = "sample"
    vms: tuple[VmSettings, ...] = ()


class SampleSettings(_Table):
    """What proves traffic: the helloworld sample and a client pod. Off means `up` proves health only."""

    enabled: bool = False
    namespace: DnsLabel = "sample"
    helloworld_images: dict[Literal["v1", "v2"], str] = {
        "v1": "docker.io/istio/examples-helloworld-v1:1.0",
        "v2": "docker.io/istio/examples-helloworld-v2:1.0",
    }
    client_image: str = "docker.io/curlimages/curl:8.16.0"


@dataclass(frozen=True)
class Settings:
    """All settings of a stack."""

    stack: str
    machines: MachinesSettings
    cluster: ClusterSettings
    mesh: MeshSettings
    workloads: tuple[WorkloadSettings, ...]
    samples: SampleSettings

    @property
    def owner(self) -> str:
        """Whose machines these are, for the drivers."""
        return f"{PROJECT}/{self.stack}"

    def network(self, name: str) -> NetworkSettings:
        """The machine network of that name; validation has seen to it that there is one."""
        return next(n for n in self.machines.networks if n.name == name)

    def namespaces(self) -> list[str]:
        """Every namespace of the mesh's workloads, once each."""
        names = [w.namespace for w in self.workloads]
        return sorted({*names, *([self.samples.namespace] if self.samples.enabled else [])})


# ------------------------------------------------------------------------------------------------- loading


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the settings: where, and what would be right."""

    path: str
    message: str

    def __str__(self) -> str:
        """One line: path, value, what would be right."""
        return f"{self.path}: {self.message}"


class SettingsError(pulumi.RunError):
    """All that is wrong with the settings of a stack. As a `RunError` Pulumi shows it without a stack trace."""

    def __init__(self, problems: list[Problem]) -> None:
        """`problems` has every error found, in the order of the stack file."""
        self.problems = problems
        listing = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} error(s) in the settings of this stack:\n{listing}")


_SECTIONS: dict[str, TypeAdapter[Any]] = {
    "machines": TypeAdapter(MachinesSettings),
    "cluster": TypeAdapter(ClusterSettings),
    "mesh": TypeAdapter(MeshSettings),
    "workloads": TypeAdapter(tuple[WorkloadSettings, ...]),
    "samples": TypeAdapter(SampleSettings),
}
_DEFAULTS: dict[str, Any] = {"workloads": (), "samples": SampleSettings()}


def load() -> Settings:
    """Read and validate the settings of the stack being run.

    Files that are named but not there are errors when something is about to be made and warnings in a preview, which must
    work on a machine that has none of them.

    Raises:
        SettingsError: with every error at once.
    """
    prefix = f"{PROJECT}:"
    # pulumi.Config only answers for keys one knows; unknown ones have to be seen to be refused.
    everything = runtime_config.CONFIG.get()
    raw = {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}
    secret = {key for key in raw if runtime_config.is_config_secret(prefix + key)}
    settings = parse(pulumi.get_stack(), raw, secret)
    missing = missing_files(settings)
    if missing and not pulumi.runtime.is_dry_run():
        raise SettingsError(missing)
    for problem in missing:
        pulumi.log.warn(f"{problem} (an error when this is applied)")
    return settings


def parse(stack: str, raw: Mapping[str, str], secret: set[str] | None = None) -> Settings:
    """Validate settings as Pulumi hands them over: a JSON text per top-level key.

    Args:
        stack: the stack's name; machine names begin with it.
        raw: `machines`, `cluster`, … to their JSON text.
        secret: keys whose values must not be shown.

    Raises:
        SettingsError: with every error at once.
    """
    problems: list[Problem] = []
    parsed = dict(_DEFAULTS)
    for key in [*_SECTIONS, *sorted(set(raw) - set(_SECTIONS))]:
        if key not in _SECTIONS:
            problems.append(Problem(f"{PROJECT}:{key}", f"unknown; known are {', '.join(_SECTIONS)}"))
        elif key not in raw:
            if key not in _DEFAULTS:
                problems.append(Problem(f"{PROJECT}:{key}", "missing; this table is needed"))
        else:
            try:
                parsed[key] = _SECTIONS[key].validate_json(_json_text(raw[key]), strict=True)
            except ValidationError as error:
                problems += _problems(key, error, hide=key in (secret or set()))
    problems += _check_stack(stack)
    problems += _cross_check(stack, parsed)
    if problems:
        raise SettingsError(problems)
    return Settings(stack=stack, **parsed)


def _json_text(value: str) -> str:
    try:
        json.loads(value)
    except ValueError:
        return json.dumps(value)
    return value


def _problems(key: str, error: ValidationError, hide: bool) -> Iterator[Problem]:
    for item in error.errors(include_url=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown setting; see Pulumi.yaml for the known ones"
        elif item["type"] == "missing":
            message = "missing; this setting is needed"
        elif not hide:
            message = f"{json.dumps(item['input'], default=str)}: {message}"
        yield Problem(f"{PROJECT}:{key}{path}", message)


# ------------------------------------------------------------------------------------------------- checks across tables

_STACK = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
_NODE_PORTS = {22: "sshd", 6443: "the Kubernetes API", 10250: "the kubelet"}


def _check_stack(stack: str) -> Iterator[Problem]:
    if not _STACK.fullmatch(stack):
        yield Problem(
            "stack",
            f"{stack!r}: machine names begin with the stack's name, so it should be a short DNS label such as dev",
        )


def _cross_check(stack: str, parsed: Mapping[str, Any]) -> Iterator[Problem]:
    """Checks that need more than one value; a table that did not parse takes its own checks with it, not the others'."""
    machines: MachinesSettings | None = parsed.get("machines")
    cluster: ClusterSettings | None = parsed.get("cluster")
    mesh: MeshSettings | None = parsed.get("mesh")
    workloads: tuple[WorkloadSettings, ...] = parsed.get("workloads", ())
    if machines:
        yield from _check_machines(machines)
    if cluster:
        yield from _check_cluster(cluster)
    if mesh:
        yield from _check_mesh(mesh)
    yield from _check_workloads(workloads)
    yield from _check_cidrs(machines, cluster)
    yield from _check_machine_names(stack, cluster, workloads)
    if machines:
        yield from _check_hosts(machines, cluster, workloads)
        yield from _check_networks(machines, cluster, workloads)
        yield from _check_artifacts(machines, cluster, mesh)
    if mesh:
        for i, workload in enumerate(workloads):
            if workload.network == mesh.network:
                yield Problem(
                    f"{PROJECT}:workloads[{i}].network",
                    f"{workload.network!r}: is the cluster's own network (mesh.network); VMs have no route to pods, so "
                    "their Istio network should have another name",
                )


def _duplicates(names: Iterator[tuple[str, str]], what: str) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for path, name in names:
        if name in seen:
            yield Problem(path, f"{name!r}: {what} is already used at {seen[name]}")
        else:
            seen[name] = path


def _check_machines(machines: MachinesSettings) -> Iterator[Problem]:
    at = f"{PROJECT}:machines"
    yield from _duplicates(
        ((f"{at}.networks[{i}].name", n.name) for i, n in enumerate(machines.networks)), "this network name"
    )
    for i, network in enumerate(machines.networks):
        if machines.driver is DriverName.NSPAWN and network.cidr is None:
            yield Problem(f"{at}.networks[{i}].cidr", "missing; driver nspawn makes this network and needs its CIDR")
        if machines.driver is not DriverName.NSPAWN and network.cidr is not None:
            yield Problem(
                f"{at}.networks[{i}].cidr",
                f"{network.cidr!r}: driver {machines.driver.value} does not make networks; remove it",
            )
    if machines.driver is DriverName.EXISTING:
        if machines.private_key_file is None:
            yield Problem(f"{at}.privateKeyFile", "missing; driver existing needs the key that opens the hosts")
        if machines.mounts:
            yield Problem(f"{at}.mounts", "driver existing cannot mount folders; give artifacts by url")
    elif not machines.image:
        yield Problem(f"{at}.image", f"missing; driver {machines.driver.value} needs to know what to boot")


def _check_cluster(cluster: ClusterSettings) -> Iterator[Problem]:
    if cluster.servers.size % 2 == 0:
        yield Problem(
            f"{PROJECT}:cluster.servers.count",
            f"{cluster.servers.size}: should be odd, so that embedded etcd keeps a majority (1, 3, 5)",
        )
    taken = {
        "disable",
        "token",
        "server",
        "cluster-cidr",
        "service-cidr",
        "node-ip",
        "node-name",
        "tls-san",
        "cluster-init",
    }
    for key in sorted(taken & set(cluster.config)):
        yield Problem(f"{PROJECT}:cluster.config.{key}", "is set by the program; remove it here")


def _check_mesh(mesh: MeshSettings) -> Iterator[Problem]:
    at = f"{PROJECT}:mesh"
    if (mesh.charts.repository is None) == (mesh.charts.directory is None):
        yield Problem(f"{at}.charts", "should have either repository or directory")
    taken: dict[int, str] = dict(_NODE_PORTS)
    for table, ports in (("ingressPorts", mesh.ingress_ports), ("eastWestPorts", mesh.east_west_ports)):
        for field, port in ports:
            if port in taken:
                yield Problem(
                    f"{at}.{table}.{field}",
                    f"{port}: is already taken by {taken[port]}; ServiceLB gives both gateways the same nodes' ports, "
                    "so each should be used once",
                )
            taken.setdefault(port, f"mesh.{table}.{field}")


def _check_workloads(workloads: tuple[WorkloadSettings, ...]) -> Iterator[Problem]:
    at = f"{PROJECT}:workloads"
    yield from _duplicates(
        ((f"{at}[{i}].name", f"{w.namespace}/{w.name}") for i, w in enumerate(workloads)), "this workload"
    )
    for i, workload in enumerate(workloads):
        for attribute in ("name", "port"):
            values = (
                (f"{at}[{i}].ports[{j}].{attribute}", str(getattr(p, attribute))) for j, p in enumerate(workload.ports)
            )
            yield from _duplicates(values, f"this port {attribute}")
        if workload.application == "sample" and workload.probe.port not in {p.port for p in workload.ports}:
            yield Problem(
                f"{at}[{i}].probe.port",
                f"{workload.probe.port}: the sample application listens on the workload's ports only",
            )


def _check_cidrs(machines: MachinesSettings | None, cluster: ClusterSettings | None) -> Iterator[Problem]:
    named: list[tuple[str, str]] = []
    if machines:
        named += [(f"{PROJECT}:machines.networks[{i}].cidr", n.cidr) for i, n in enumerate(machines.networks) if n.cidr]
    if cluster:
        named += [
            (f"{PROJECT}:cluster.podCidr", cluster.pod_cidr),
            (f"{PROJECT}:cluster.serviceCidr", cluster.service_cidr),
        ]
    for i, (path, cidr) in enumerate(named):
        for other_path, other in named[:i]:
            if ipaddress.ip_network(cidr).overlaps(ipaddress.ip_network(other)):
                yield Problem(path, f"{cidr!r}: overlaps {other_path} ({other})")


def node_names(cluster: ClusterSettings) -> Iterator[tuple[str, str, NodePool, int]]:
    """The machines of the cluster in order: (name, role, pool, index in the pool)."""
    for role, pool in (("server", cluster.servers), ("agent", cluster.agents)):
        for i in range(pool.size):
            yield f"{role}-{i + 1}", role, pool, i


def _check_machine_names(
    stack: str, cluster: ClusterSettings | None, workloads: tuple[WorkloadSettings, ...]
) -> Iterator[Problem]:
    named = [("the cluster's own machines", name) for name, *_ in node_names(cluster)] if cluster else []
    for i, workload in enumerate(workloads):
        named += [(f"{PROJECT}:workloads[{i}].vms[{j}].name", vm.name) for j, vm in enumerate(workload.vms)]
    yield from _duplicates(iter(named), "this machine name")
    for path, name in named:
        if len(f"{stack}-{name}") > 60:
            yield Problem(path, f"{name!r}: with the stack's name in front it is longer than a host name may be (60)")


def _check_hosts(
    machines: MachinesSettings, cluster: ClusterSettings | None, workloads: tuple[WorkloadSettings, ...]
) -> Iterator[Problem]:
    wanted = machines.driver is DriverName.EXISTING
    given: list[tuple[str, bool]] = []
    if cluster:
        given += [(f"{PROJECT}:cluster.servers.hosts", bool(cluster.servers.hosts))]
        given += [(f"{PROJECT}:cluster.agents.hosts", bool(cluster.agents.hosts))] if cluster.agents.size else []
    for i, workload in enumerate(workloads):
        given += [
            (f"{PROJECT}:workloads[{i}].vms[{j}].existing", vm.existing is not None)
            for j, vm in enumerate(workload.vms)
        ]
    for path, there in given:
        if there and not wanted:
            yield Problem(path, f"hosts are for driver existing; this stack's driver is {machines.driver.value}")
        if wanted and not there:
            yield Problem(path, "missing; with driver existing every machine names its host and host key")
    for i, workload in enumerate(workloads):
        if wanted and workload.application == "sample":
            yield Problem(
                f"{PROJECT}:workloads[{i}].application",
                "'sample': is put on machines that the stack makes; hosts of driver existing run their own, so this should be none",
            )


def _check_networks(
    machines: MachinesSettings, cluster: ClusterSettings | None, workloads: tuple[WorkloadSettings, ...]
) -> Iterator[Problem]:
    known = {n.name for n in machines.networks}
    used = [(f"{PROJECT}:cluster.network", cluster.network)] if cluster else []
    for i, workload in enumerate(workloads):
        used += [(f"{PROJECT}:workloads[{i}].vms[{j}].network", vm.network) for j, vm in enumerate(workload.vms)]
    for path, name in used:
        if name not in known:
            yield Problem(path, f"{name!r}: no such network; machines.networks has {', '.join(sorted(known))}")


# ------------------------------------------------------------------------------------------------- artifacts and files


def _artifacts(cluster: ClusterSettings | None, mesh: MeshSettings | None) -> Iterator[tuple[str, Artifact]]:
    named: list[tuple[str, Artifact | None]] = []
    if cluster:
        named += [(f"{PROJECT}:cluster.binary", cluster.binary), (f"{PROJECT}:cluster.tools", cluster.tools)]
        named += [(f"{PROJECT}:cluster.images[{i}]", image) for i, image in enumerate(cluster.images)]
    if mesh:
        named += [(f"{PROJECT}:mesh.sidecarPackage", mesh.sidecar_package)]
    for path, artifact in named:
        while artifact:
            yield path, artifact
            path, artifact = f"{path}.arm64", artifact.arm64


def machine_path(machines: MachinesSettings, path: str) -> str | None:
    """Where a file of the operator's machine is seen on every machine, or None when no mount covers it."""
    for mount in machines.mounts:
        if Path(path).is_relative_to(mount.source):
            return str(Path(mount.target) / Path(path).relative_to(mount.source))
    return None


def _check_artifacts(
    machines: MachinesSettings, cluster: ClusterSettings | None, mesh: MeshSettings | None
) -> Iterator[Problem]:
    for at, artifact in _artifacts(cluster, mesh):
        if (artifact.url is None) == (artifact.path is None):
            yield Problem(at, "should have either url or path")
        if artifact.url and (artifact.sha256 is None) == (artifact.checksums is None):
            yield Problem(at, "a url should come with either sha256 or checksums, so that what is fetched is verified")
        if artifact.path and (artifact.sha256 or artifact.checksums):
            yield Problem(at, "a path is verified by the SHA256SUMS beside it; remove sha256 and checksums")
        if artifact.path and machine_path(machines, artifact.path) is None:
            yield Problem(
                f"{at}.path", f"{artifact.path!r}: is under none of machines.mounts, so no machine can see it"
            )


def missing_files(settings: Settings) -> list[Problem]:
    """Files and folders the settings name that are not on this machine."""
    named = [(f"{at}.path", artifact.path) for at, artifact in _artifacts(settings.cluster, settings.mesh)]
    named += [(f"{PROJECT}:machines.mounts[{i}].source", m.source) for i, m in enumerate(settings.machines.mounts)]
    named += [(f"{PROJECT}:machines.privateKeyFile", settings.machines.private_key_file)]
    if settings.machines.driver is DriverName.NSPAWN:
        named += [(f"{PROJECT}:machines.image", str(Path(settings.machines.image).expanduser()))]
    if settings.mesh.charts.directory:
        charts = ("base", "istiod", "gateway")
        named += [(f"{PROJECT}:mesh.charts.directory", f"{settings.mesh.charts.directory}/{chart}") for chart in charts]
    hint = "`make tools` makes the lab's files" if settings.machines.driver is DriverName.NSPAWN else "check the path"
    return [Problem(at, f"{path!r}: does not exist; {hint}") for at, path in named if path and not Path(path).exists()]
