"""The files that make a virtual machine a member of the mesh, rendered from plain data.

They equal what `istioctl x workload entry configure --autoregister --internalIP …` writes for the same WorkloadGroup, except for the
port of istiod at the east-west gateway, which istioctl fixes at 15012, and for the gateway's further addresses in `hosts`. The format's
source is Istio's `istioctl/pkg/workload/workload.go`; `tests/unit/workloads/golden` has files written by the real istioctl.
"""

from __future__ import annotations

import copy
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, cast

import yaml
from pydantic import Field

from actions.protocol import Document
from actions.workloads.on_vm import HOSTS_BEGIN, HOSTS_BLOCK
from actions.workloads.routes import Route

ISTIOD_PORT = 15012
"""Where istiod itself serves xDS and the CA over TLS, and what a sidecar assumes when told nothing."""
CERTIFICATE_SECONDS = 86400
"""How long a sidecar asks its certificates to be valid when told nothing."""

CLUSTER_ENV = "/var/lib/istio/envoy/cluster.env"
MESH_CONFIG = "/etc/istio/config/mesh"
ROOT_CERTIFICATE = "/etc/certs/root-cert.pem"
TOKEN = "/var/run/secrets/tokens/istio-token"  # noqa: S105 - a path
UNIT_DROP_IN = "/etc/systemd/system/istio.service.d/10-istio-vms.conf"
KEEPALIVE_DROP_IN = "/etc/systemd/system/istio.service.d/20-istio-vms-keepalive.conf"

KEEPALIVE_SECONDS, SILENCE_SECONDS = 20, 5
"""After how long without a word the sidecar's agent asks istiod whether it is there, and how long it waits for the answer. Left alone it
is 30 and 10, so that a gateway's node that died is noticed after 40 s. istiod takes asking more often than every 15 s for abuse."""

_CANONICAL_NAME = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_CANONICAL_REVISION = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")

Port = Annotated[int, Field(ge=1, le=65535)]


class MemberSpec(Document):
    """One virtual machine as a member of a WorkloadGroup.

    Attributes:
        workload: the WorkloadGroup's name.
        namespace: the WorkloadGroup's namespace, where the service account is too.
        service_account: gives the member its identity.
        labels: the labels of the WorkloadGroup's members.
        ports: the WorkloadGroup's ports, name to number; without any, all inbound traffic but SSH is captured.
        network: the Istio network of the member.
        cluster_id: istiod's own `global.multiCluster.clusterName`; istiod refuses any other.
        mesh_id: the mesh's `defaultConfig.meshId`.
        trust_domain: the mesh's trust domain.
        revision: of the istiod to connect to; empty or `default` for the one without a revision.
        istiod_namespace: where that istiod runs.
        gateway_addresses: of the east-west gateway: IP addresses, each of which serves, or one host name.
        istiod_port: the port of istiod at the gateway.
        address: the member's own IP address, as its callers see it.
        probe: the WorkloadGroup's `probe`, with Kubernetes' spelling; None for none.
        mesh_proxy_config: the mesh's `defaultConfig` apart from `meshId` and `discoveryAddress`, with Istio's spelling.
        proxy_config: the WorkloadGroup's `proxy.istio.io/config` annotation; wins over the mesh's.
        dns_capture: whether the sidecar answers the machine's DNS queries.
        uncaptured_ports: inbound ports that never go through the sidecar, besides SSH's 22 and the sidecar's own.
        certificate_seconds: how long each of the member's certificates is valid; istiod refuses more than 90 days.
        routes: the machine's routes to pods while its sidecar runs; without any, it reaches pods through the gateway only.
    """

    workload: Annotated[str, Field(min_length=1)]
    namespace: Annotated[str, Field(min_length=1)]
    service_account: str = "default"
    labels: Mapping[str, str] = {}
    ports: Mapping[str, Port] = {}
    network: str = ""
    cluster_id: Annotated[str, Field(min_length=1)]
    mesh_id: str = ""
    trust_domain: str = "cluster.local"
    revision: str = ""
    istiod_namespace: str = "istio-system"
    gateway_addresses: Annotated[tuple[str, ...], Field(min_length=1)]
    istiod_port: Port = ISTIOD_PORT
    address: Annotated[str, Field(min_length=1)]
    probe: Mapping[str, Any] | None = None
    mesh_proxy_config: Mapping[str, Any] = {}
    proxy_config: Mapping[str, Any] = {}
    dns_capture: bool = True
    uncaptured_ports: tuple[Port, ...] = ()
    certificate_seconds: Annotated[int, Field(ge=30, le=90 * 86400)] = CERTIFICATE_SECONDS
    routes: tuple[Route, ...] = ()

    @property
    def revisioned(self) -> bool:
        """Whether istiod's names carry the revision."""
        return self.revision not in ("", "default")

    @property
    def istiod_host(self) -> str:
        """The name istiod's certificate is for, as seen from the mesh."""
        istiod = f"istiod-{self.revision}" if self.revisioned else "istiod"
        return f"{istiod}.{self.istiod_namespace}.svc"

    @property
    def spiffe_id(self) -> str:
        """The member's identity, as its certificate has it."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def gateway_host_name(self) -> str | None:
        """The gateway's host name where a cloud's load balancer gave it one rather than an IP address."""
        return None if _is_ip(self.gateway_addresses[0]) else self.gateway_addresses[0]

    @property
    def discovery_address(self) -> str:
        """Where the sidecar connects to; with a host name `ISTIOD_SAN` says whose certificate to expect there."""
        return f"{self.gateway_host_name or self.istiod_host}:{self.istiod_port}"


class Effect(StrEnum):
    """What a change of a file asks for."""

    NONE = "none"
    """The sidecar reads the file when it needs it."""
    RESTART = "restart"
    """The sidecar reads the file at its start."""
    CERTIFICATE = "certificate"
    """The member's certificate may no longer be right either: a restart, with a new certificate got for the token."""


@dataclass(frozen=True)
class File:
    """A file on the machine.

    `owner` is its user and group; a folder made for it has the same owner and, if the file is private, mode 0700. `rewritten` is true
    where the sidecar later writes the file itself, so that only a change of what we ask for counts.
    """

    content: str
    mode: int = 0o644
    owner: str = "root"
    effect: Effect = Effect.RESTART
    rewritten: bool = False


def cluster_env(spec: MemberSpec) -> str:
    """The environment of `istio-start.sh`, a shell file that root sources."""
    proxy = _proxy_config(spec)
    environment: dict[str, str] = {
        **proxy["proxyMetadata"],
        "ISTIO_INBOUND_PORTS": ",".join(str(port) for port in sorted(spec.ports.values())) or "*",
        "ISTIO_LOCAL_EXCLUDE_PORTS": _excluded_ports(spec, proxy.get("statusPort", 0)),
        "ISTIO_NAMESPACE": spec.namespace,
        "ISTIO_SERVICE": f"{spec.workload}.{spec.namespace}",
        "ISTIO_SERVICE_CIDR": "*",
        "ISTIO_SVC_IP": spec.address,
        "SERVICE_ACCOUNT": spec.service_account,
    }
    if spec.revisioned or spec.discovery_address != f"{spec.istiod_host}:{ISTIOD_PORT}":
        environment["CA_ADDR"] = spec.discovery_address
    if spec.gateway_host_name:
        environment["ISTIOD_SAN"] = spec.istiod_host
    if spec.certificate_seconds != CERTIFICATE_SECONDS:
        environment["SECRET_TTL"] = f"{spec.certificate_seconds}s"
    return "".join(sorted(f"{key}={_quote(value)}\n" for key, value in environment.items()))


def mesh_yaml(spec: MemberSpec) -> str:
    """The mesh configuration that the sidecar's agent reads."""
    return yaml.dump(
        {"defaultConfig": _proxy_config(spec)},
        Dumper=_Dumper,
        default_flow_style=False,
        allow_unicode=True,
        width=float("inf"),
    )


def hosts(spec: MemberSpec) -> str:
    """The lines for `/etc/hosts` that lead istiod's name to the gateway; empty where the gateway has a name of its own.

    The sidecar tries one address after the other; members begin at different ones, so that a node that goes is not everybody's.
    """
    if spec.gateway_host_name:
        return ""
    first = int(ipaddress.ip_address(spec.address)) % len(spec.gateway_addresses)
    addresses = [*spec.gateway_addresses[first:], *spec.gateway_addresses[:first]]
    return "".join(f"{address} {spec.istiod_host}\n" for address in addresses)


def unit_drop_in(routes: Sequence[Route] = ()) -> str:
    """Makes the sidecar come back by itself after a reboot, and the routes come and go with it.

    istio.service is not ordered after the network; and cloud-init's `manage_etc_hosts`, which runs before network-online.target,
    rewrites `/etc/hosts` at every boot. Routes go after every end of the sidecar, a failed start's too; the sidecar stops before this file
    changes, so the routes that go are those that came.
    """
    restore = f"grep -qxF '{HOSTS_BEGIN}' /etc/hosts || cat {HOSTS_BLOCK} >> /etc/hosts"
    lines = [
        "[Unit]",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        f'ExecStartPre=/bin/sh -c "{restore}"',
        *(f"ExecStartPre=ip route replace {route.cidr} via {route.via}" for route in routes),
        *(f"ExecStopPost=-ip route del {route.cidr} via {route.via}" for route in routes),
    ]
    return "".join(f"{line}\n" for line in lines)


def keepalive_drop_in() -> str:
    """Has the sidecar notice soon that its way to istiod is gone, and take another. It counts from the sidecar's next start on."""
    return (
        "[Service]\n"
        f"Environment=GRPC_KEEPALIVE_INTERVAL={KEEPALIVE_SECONDS}s GRPC_KEEPALIVE_TIMEOUT={SILENCE_SECONDS}s\n"
    )


def sidecar_files(spec: MemberSpec, root_certificate: str, token: str) -> dict[str, File]:
    """Every file of a member by its path, but for the block in `/etc/hosts` and its copy, which carry the machine's own name too.

    `cluster.env` belongs to root because root sources it. Only the token, a JWT, is secret.
    """
    return {
        CLUSTER_ENV: File(cluster_env(spec), effect=Effect.CERTIFICATE),
        MESH_CONFIG: File(mesh_yaml(spec)),
        ROOT_CERTIFICATE: File(root_certificate, effect=Effect.CERTIFICATE, rewritten=True),
        UNIT_DROP_IN: File(unit_drop_in(spec.routes)),
        KEEPALIVE_DROP_IN: File(keepalive_drop_in(), effect=Effect.NONE),
        TOKEN: File(token, mode=0o600, owner="istio-proxy", effect=Effect.NONE),
    }


def member_paths() -> tuple[str, ...]:
    """The paths of `sidecar_files`: what leaving the mesh removes."""
    return (CLUSTER_ENV, MESH_CONFIG, ROOT_CERTIFICATE, UNIT_DROP_IN, KEEPALIVE_DROP_IN, TOKEN)


def _proxy_config(spec: MemberSpec) -> dict[str, Any]:
    """The mesh's defaults, the workload's own over them key by key, and what makes the member who it is."""
    proxy: dict[str, Any] = {"meshId": spec.mesh_id} if spec.mesh_id else {}
    proxy |= copy.deepcopy({**spec.mesh_proxy_config, **spec.proxy_config})
    metadata = {**spec.mesh_proxy_config.get("proxyMetadata", {}), **spec.proxy_config.get("proxyMetadata", {})}
    name = _first_label(spec.labels, _CANONICAL_NAME, spec.workload)
    revision = _first_label(spec.labels, _CANONICAL_REVISION, "latest")
    metadata |= {
        "CANONICAL_SERVICE": name,
        "CANONICAL_REVISION": revision,
        "POD_NAMESPACE": spec.namespace,
        "SERVICE_ACCOUNT": spec.service_account,
        "TRUST_DOMAIN": spec.trust_domain,
        "ISTIO_META_AUTO_REGISTER_GROUP": spec.workload,
        "ISTIO_META_CLUSTER_ID": spec.cluster_id,
        "ISTIO_META_MESH_ID": proxy.get("meshId", ""),
        "ISTIO_META_NETWORK": spec.network,
        "ISTIO_META_WORKLOAD_NAME": spec.workload,
        "ISTIO_METAJSON_LABELS": _json({**spec.labels, _CANONICAL_NAME[0]: name, _CANONICAL_REVISION[0]: revision}),
    }
    if spec.ports:
        ports = [{"name": n, "containerPort": port, "protocol": ""} for n, port in sorted(spec.ports.items())]
        metadata["ISTIO_META_POD_PORTS"] = json.dumps(ports, separators=(",", ":"))
    if spec.dns_capture:
        metadata["ISTIO_META_DNS_CAPTURE"] = "true"
    proxy |= {"discoveryAddress": spec.discovery_address, "proxyMetadata": metadata}
    return proxy | ({"readinessProbe": copy.deepcopy(dict(spec.probe))} if spec.probe else {})


def _excluded_ports(spec: MemberSpec, status_port: int) -> str:
    """SSH, Prometheus and the agent's own: never captured, so that a mistake in the mesh cannot lock anyone out."""
    agent = [] if status_port in (15090, 15021) else [status_port or 15020]
    return ",".join(str(port) for port in [22, 15090, 15021, *agent, *spec.uncaptured_ports])


def _first_label(labels: Mapping[str, str], keys: tuple[str, ...], default: str) -> str:
    return next((labels[key] for key in keys if key in labels), default)


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _quote(value: str) -> str:
    """Istio's own shell quoting, which unlike `shlex.quote` takes few characters for safe: not even other letters than w."""
    return value if re.fullmatch(r"[\\w@%+=:,./-]+", value) else "'" + value.replace("'", "'\"'\"'") + "'"


_STR = "tag:yaml.org,2002:str"


class _Dumper(yaml.SafeDumper):
    """Writes strings as Go's YAML does: double quotes where a plain word would be read as another type."""


def _represent_str(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else '"' if _reads_as_another_type(dumper, value) else None
    return dumper.represent_scalar(_STR, value, style)  # pyright: ignore[reportUnknownMemberType]


def _reads_as_another_type(dumper: _Dumper, value: str) -> bool:
    tag = cast(str, dumper.resolve(yaml.ScalarNode, value, (True, False)))  # pyright: ignore[reportUnknownMemberType]
    if tag != _STR:
        return True
    try:
        float(value)
    except ValueError:
        return value in ("y", "Y", "n", "N")
    return True


_Dumper.add_representer(str, _represent_str)
