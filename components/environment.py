"""From settings to components: which values of a stack go into which component. No resource is made here but by a component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from actions.artifacts import MachineArtifact, install_deb_script
from actions.cluster import kubeconfig
from actions.machines import cloud_init
from actions.samples.application import sample_application
from components import applications
from components.cluster.access import ClusterAccess
from components.cluster.existing import ExistingCluster
from components.cluster.k3s import K3sCluster
from components.machines.machine import Machine, SshKey
from components.mesh.charts import Charts
from components.mesh.control_plane import NAMESPACE, ControlPlane
from components.mesh.egress_guard import EgressGuards
from components.mesh.gateway import EastWestGateway, IngressGateway
from components.mesh.policies import MeshPolicies
from components.mesh.readings import mesh_config, root_certificate
from components.mesh.reinjection import reinjection
from components.mesh.telemetry import access_logs
from components.mesh.traffic import TrafficRouting
from components.names import Key, formerly
from components.samples.helloworld import Helloworld
from components.samples.proof_of_traffic import Call, ProofOfTraffic
from components.settings import (
    Artifact,
    DriverName,
    EgressGuardSettings,
    ExistingClusterSettings,
    HostSettings,
    Settings,
    Sizes,
    TrafficSettings,
    WorkloadSettings,
    machine_path,
    mib,
    node_names,
)
from components.workloads.applications import make_accounts, make_services
from components.workloads.vm_member import VmMember
from components.workloads.vm_workload import VmWorkload, VmWorkloadArgs

SIDECAR_PACKAGE = "istio-sidecar"


def ssh_key(settings: Settings) -> SshKey:
    """The key that opens every machine."""
    return SshKey("key", {"private_key_file": settings.machines.private_key_file})


def machine_artifact(settings: Settings, artifact: Artifact) -> MachineArtifact:
    """An artifact as machines see it: a path under its mount's target."""
    return MachineArtifact(
        url=artifact.url,
        sha256=artifact.sha256,
        checksums=artifact.checksums,
        path=machine_path(settings.machines, artifact.path) if artifact.path else None,
        arm64=machine_artifact(settings, artifact.arm64) if artifact.arm64 else None,
    )


class Machines:
    """Every machine of the stack, by the name the settings give it."""

    def __init__(self, settings: Settings, key: SshKey) -> None:
        """Make them all side by side."""
        self._settings = settings
        self._key = key
        self.servers: list[Machine] = []
        self.agents: list[Machine] = []
        self.vms: dict[str, Machine] = {}
        for name, role, pool, i in node_names(settings.cluster):
            host = pool.hosts[i] if pool.hosts else None
            machine = self._make(name, settings.cluster.network, pool, host)
            (self.servers if role == "server" else self.agents).append(machine)
        for workload in settings.workloads:
            for vm in workload.vms:
                files, commands = self._preparation(workload)
                self.vms[vm.name] = self._make(vm.name, vm.network, vm, vm.existing, files, commands)

    def exports(self) -> dict[str, Any]:
        """Address, SSH port, user and host key of each."""
        everyone = [*self.servers, *self.agents, *self.vms.values()]
        return {machine.machine_name: machine.exports() for machine in everyone}

    def _preparation(self, workload: WorkloadSettings) -> tuple[tuple[cloud_init.File, ...], tuple[str, ...]]:
        """What a VM does while the cluster comes up: the sidecar's package, and the sample application."""
        package = machine_artifact(self._settings, self._settings.mesh.sidecar_package)
        commands = (install_deb_script(package, SIDECAR_PACKAGE),)
        if workload.application == "none":
            return (), commands
        ports = tuple(port.port for port in workload.ports)
        files, start = sample_application(workload.name, ports, workload.version or "v1")
        return files, start + commands

    def _options(self, host: HostSettings | None) -> dict[str, Any]:
        """The driver's own options, as its documentation names them."""
        shared = self._settings.machines
        if host:
            return {**host.model_dump(), "user": shared.user, "private_key": self._key.private_key}
        return shared.multipass.model_dump(mode="json") if shared.driver is DriverName.MULTIPASS else {}

    def _make(
        self,
        name: str,
        network: str,
        sizes: Sizes,
        host: HostSettings | None,
        files: tuple[cloud_init.File, ...] = (),
        commands: tuple[str, ...] = (),
    ) -> Machine:
        settings, shared = self._settings, self._settings.machines
        full_name = f"{settings.stack}-{name}"
        user_data = self._key.public_key.apply(
            lambda public: cloud_init.render(
                cloud_init.CloudInit(full_name, shared.user, (public,), files=files, commands=commands)
            )
        )
        return Machine(
            full_name,
            {
                "driver": shared.driver.value,
                "owner": settings.owner,
                "cpus": sizes.cpus,
                "memory_mib": mib(sizes.memory),
                "disk_gib": mib(sizes.disk) // 1024,
                "image": shared.image if sizes.image is None else sizes.image,
                "user": shared.user,
                "user_data": user_data,
                "public_key": self._key.public_key,
                "network": {"name": network, "cidr": settings.network(network).cidr or ""},
                "mounts": [{"source": mount.source, "target": mount.target} for mount in shared.mounts],
                "options": self._options(host),
                "private_key": self._key.private_key,
            },
            pulumi.ResourceOptions(protect=True if settings.protection.machines else None),
        )


def cluster(settings: Settings, machines: Machines, key: SshKey) -> ClusterAccess:
    """The cluster: k3s on its machines, or one that someone else made."""
    wanted = settings.cluster
    if isinstance(wanted, ExistingClusterSettings):
        return _existing_cluster(settings, wanted)
    return K3sCluster(
        "cluster",
        {
            "servers": machines.servers,
            "agents": machines.agents,
            "token": key.token,
            "version": wanted.version,
            "endpoint": wanted.endpoint,
            "protect": settings.protection.control_plane,
            "binary": machine_artifact(settings, wanted.binary),
            "tools": machine_artifact(settings, wanted.tools) if wanted.tools else None,
            "images": [machine_artifact(settings, image) for image in wanted.images],
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
    return ExistingCluster(
        "cluster",
        {
            "kubeconfig": found,
            "context": wanted.existing.context,
            "owner": settings.owner,
            "namespaces": sorted({NAMESPACE, *_namespace_labels(settings)}),
        },
    ).access


@dataclass(frozen=True)
class Mesh:
    """The control plane and its gateways."""

    control_plane: ControlPlane
    ingress: IngressGateway
    east_west: EastWestGateway

    def exports(self) -> dict[str, Any]:
        """Addresses and ports of each gateway."""
        gateways = {"ingress": self.ingress, "eastWest": self.east_west}
        return {name: {"addresses": g.addresses, "ports": dict(g.ports)} for name, g in gateways.items()}


def mesh(settings: Settings, access: ClusterAccess) -> Mesh:
    """Istio on the cluster."""
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
    values = wanted.values.gateway
    ingress = IngressGateway(
        "istio-ingressgateway",
        {
            "cluster": access,
            "charts": charts,
            "control_plane": control_plane,
            "values": values,
            "status_port": wanted.ingress_ports.status,
            "http_port": wanted.ingress_ports.http,
            "https_port": wanted.ingress_ports.https,
        },
    )
    east_west = EastWestGateway(
        "istio-eastwestgateway",
        {
            "cluster": access,
            "charts": charts,
            "control_plane": control_plane,
            "values": values,
            "network": wanted.network,
            "exposed": wanted.exposed_services,
            "status_port": wanted.east_west_ports.status,
            "services_port": wanted.east_west_ports.services,
            "istiod_port": wanted.east_west_ports.istiod,
            "webhook_port": wanted.east_west_ports.webhook,
        },
    )
    return Mesh(control_plane, ingress, east_west)


@dataclass(frozen=True)
class Workloads:
    """The VM workloads, their members, and what they share with the samples: namespaces, Services and accounts."""

    settings: Settings
    machines: Machines
    namespaces: Mapping[str, pulumi.Output[str]]
    services: Mapping[Key, kubernetes.core.v1.Service]
    accounts: Mapping[Key, kubernetes.core.v1.ServiceAccount]
    injected: pulumi.Resource
    """Done when every pod of the mesh has a sidecar of its revision."""
    members: dict[str, VmMember] = field(default_factory=dict[str, VmMember])

    def addresses(self, guard: EgressGuardSettings) -> list[pulumi.Output[str]]:
        """Those of the VMs that a guard is about."""
        return [
            self.machines.vms[vm.name].address
            for workload in self.settings.workloads
            if not guard.workloads or f"{workload.namespace}/{workload.name}" in guard.workloads
            for vm in workload.vms
        ]

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
    """WorkloadGroups, and the VMs that join them."""
    namespaces, services = _namespaces(settings, access, in_mesh), applications.services(settings)
    in_it = {name: namespaces[name] for name in settings.namespaces()}
    made = Workloads(
        settings,
        machines,
        namespaces,
        make_services(access, namespaces, services),
        make_accounts(access, namespaces, applications.accounts(settings)),
        reinjection("reinjection", access, in_mesh.control_plane, in_it),
    )
    if not settings.workloads:
        return made
    certificate = root_certificate("root-certificate", access, in_mesh.control_plane)
    config = mesh_config("mesh-config", access, in_mesh.control_plane)
    for workload in settings.workloads:
        key, former = (workload.namespace, workload.service), f"{workload.namespace}-{workload.name}"
        # A Service with pods is there once they are, and a VM need not wait for them.
        service = [] if services[key]["pods"] else [made.services[key]]
        args: VmWorkloadArgs = {
            "cluster": access,
            "control_plane": in_mesh.control_plane,
            "namespace": made.namespaces[workload.namespace],
            "namespace_name": workload.namespace,
            "workload": workload.name,
            "app": workload.service,
            "version": workload.version,
            "service_account": workload.service_account,
            "known_by": [made.accounts[workload.namespace, workload.service_account], *service],
            "network": workload.network,
            "probe": {
                "path": workload.probe.path,
                "port": workload.probe.port,
                "period_seconds": workload.probe.period_seconds,
                "timeout_seconds": workload.probe.timeout_seconds,
                "success_threshold": workload.probe.success_threshold,
                "failure_threshold": workload.probe.failure_threshold,
            },
        }
        opts = pulumi.ResourceOptions(aliases=[formerly(former)])
        group = VmWorkload(f"{workload.namespace}/{workload.name}", args, opts)
        for vm in workload.vms:
            made.members[vm.name] = VmMember(
                vm.name,
                {
                    "machine": machines.vms[vm.name],
                    "workload": group,
                    "workload_args": args,
                    "control_plane": in_mesh.control_plane,
                    "gateway": in_mesh.east_west,
                    "root_certificate": certificate,
                    "mesh_config": config,
                    "package_script": install_deb_script(
                        machine_artifact(settings, settings.mesh.sidecar_package),
                        SIDECAR_PACKAGE,
                        existing=settings.machines.driver is DriverName.EXISTING,
                    ),
                    "cluster_name": settings.mesh.cluster_name,
                    "token_seconds": workload.token_seconds,
                    "certificate_seconds": workload.certificate_seconds,
                    "pod_routes": workload.network == settings.mesh.network,
                },
            )
    return made


def _namespace_labels(settings: Settings) -> dict[str, dict[str, str]]:
    """Namespaces whose pods get a sidecar of the stack's revision, and the samples' one outside of the mesh."""
    labels = {name: {"istio.io/rev": settings.mesh.revision} for name in settings.namespaces()}
    return labels | ({settings.outside_namespace: {}} if settings.outside_namespace else {})


def _namespaces(settings: Settings, access: ClusterAccess, in_mesh: Mesh) -> dict[str, pulumi.Output[str]]:
    """Made as their labels say, which name a revision only once its istiod serves: until then a pod would come up without a sidecar."""
    labels = _namespace_labels(settings)
    made: dict[str, pulumi.Output[str]] = {}
    for name in labels:
        namespace = kubernetes.core.v1.Namespace(
            f"namespace-{name}",
            metadata={"name": name, "labels": labels[name]},
            opts=pulumi.ResourceOptions(
                provider=access.provider,
                depends_on=[in_mesh.control_plane.istiod],
                deleted_with=access.made_by,
            ),
        )
        made[name] = namespace.metadata.apply(lambda metadata: str(metadata.name))
    return made


def policies(settings: Settings, access: ClusterAccess, in_mesh: Mesh, made: Workloads) -> list[pulumi.Resource]:
    """Who may talk to whom, how calls are divided, and what is logged."""
    wanted, control_plane = settings.policies, in_mesh.control_plane
    who = MeshPolicies(
        "policies",
        {
            "cluster": access,
            "control_plane": control_plane,
            "trust_domain": settings.mesh.trust_domain,
            "mtls": wanted.mtls.value,
            "namespace_mtls": {
                name: (made.namespaces[name], mode.value) for name, mode in wanted.namespace_mtls.items()
            },
            "authorization": [
                {
                    "name": policy.name,
                    "namespace": made.namespaces[policy.namespace],
                    "namespace_name": policy.namespace,
                    "app": policy.app,
                    "allow": policy.allow,
                }
                for policy in wanted.authorization
            ],
        },
    )
    guards = EgressGuards(
        "egress-guards",
        {
            "cluster": access,
            "guards": {
                guard.namespace: {"namespace": made.namespaces[guard.namespace], "addresses": made.addresses(guard)}
                for guard in wanted.egress_guards
            },
        },
    )
    logged = settings.telemetry.namespaces if settings.telemetry.access_logs == "namespaces" else None
    if settings.telemetry.access_logs != "off":
        chosen = None if logged is None else {name: made.namespaces[name] for name in logged}
        access_logs("access-logs", access, control_plane, chosen)
    return [who, guards, *(_traffic(traffic, access, in_mesh, made) for traffic in settings.traffic)]


def _traffic(wanted: TrafficSettings, access: ClusterAccess, in_mesh: Mesh, made: Workloads) -> TrafficRouting:
    return TrafficRouting(
        f"traffic/{wanted.namespace}/{wanted.service}",
        {
            "cluster": access,
            "control_plane": in_mesh.control_plane,
            "namespace": made.namespaces[wanted.namespace],
            "namespace_name": wanted.namespace,
            "service": wanted.service,
            "versions": wanted.versions,
            "routes": [{"headers": route.headers, "shares": route.shares} for route in wanted.routes],
            "retries": (
                {"attempts": wanted.retries.attempts, "per_try_seconds": wanted.retries.per_try_seconds}
                if wanted.retries
                else None
            ),
            "outliers": {
                version: {
                    "consecutive_errors": outliers.consecutive_errors,
                    "interval_seconds": outliers.interval_seconds,
                    "ejection_seconds": outliers.ejection_seconds,
                }
                for version, outliers in wanted.outliers.items()
            },
        },
        pulumi.ResourceOptions(aliases=[formerly(f"traffic-{wanted.namespace}-{wanted.service}")]),
    )


def proof(
    settings: Settings, access: ClusterAccess, in_mesh: Mesh, made: Workloads, applied: list[pulumi.Resource]
) -> pulumi.Output[str] | None:
    """Samples, and calls between them and every VM once the policies are applied; None where the stack has no samples or no VMs."""
    namespaces = applications.sample_namespaces(settings)
    if namespaces is None:
        return None
    samples = Helloworld(
        "helloworld",
        {
            "cluster": access,
            "control_plane": in_mesh.control_plane,
            "sample_namespaces": namespaces,
            "namespaces": made.namespaces,
            "accounts": made.accounts,
            "images": {str(version): image for version, image in settings.samples.helloworld_images.items()},
            "client_image": settings.samples.client_image,
        },
    )
    calls: list[Call] = [
        {
            "machine": made.machines.vms[vm.name],
            "member": made.members[vm.name],
            "service_url": f"http://{workload.service}.{workload.namespace}.svc:{workload.probe.port}",
        }
        for workload in settings.workloads
        if workload.application == "sample"
        for vm in workload.vms
    ]
    if not calls:
        return None
    return ProofOfTraffic(
        "proof",
        {
            "cluster": access,
            "samples": samples,
            "namespace": settings.samples.namespace,
            "calls": calls,
        },
        pulumi.ResourceOptions(depends_on=[*applied, *made.services.values(), made.injected]),
    ).evidence
