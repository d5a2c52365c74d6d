"""Gateways of the mesh: ingress for users, east-west for other networks and their VMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from actions.registry import GATEWAY_ADDRESSES
from components.action import run
from components.cluster.access import ClusterAccess
from components.mesh.charts import Charts, merged
from components.mesh.control_plane import ControlPlane
from components.mesh.objects import NETWORKING, host, istio_object
from components.settings import EastWestPorts, IngressPorts

ADDRESS_SECONDS = 180

# The chart's own probe asks every 15 s, so a gateway that is ready at once is used 15 s later.
_DEFAULTS = {
    "imagePullPolicy": "IfNotPresent",
    "readinessProbe": {
        "httpGet": {"path": "/healthz/ready", "port": 15021},
        "initialDelaySeconds": 1,
        "periodSeconds": 2,
        "failureThreshold": 15,
    },
}


class GatewayArgs(TypedDict):
    """What every gateway is made of."""

    cluster: ClusterAccess
    charts: Charts
    control_plane: ControlPlane
    values: NotRequired[Mapping[str, Any]]
    """Helm values merged over ours."""


class Gateway(pulumi.ComponentResource):
    """One release of Istio's gateway chart, with the addresses its LoadBalancer Service got."""

    addresses: pulumi.Output[list[str]]
    """All addresses: IPs or, with a cloud's load balancer, host names."""
    ports: Mapping[str, int]
    """Service port names to numbers."""
    release: kubernetes.helm.v3.Release
    """The gateway's Helm release."""

    def __init__(
        self,
        name: str,
        args: GatewayArgs,
        ports: Mapping[str, int],
        values: Mapping[str, Any],
        opts: pulumi.ResourceOptions | None = None,
        kind: str = "Gateway",
    ) -> None:
        """Install the gateway and wait for its addresses."""
        super().__init__(f"istio-vms:mesh:{kind}", name, None, opts)
        cluster, control_plane = args["cluster"], args["control_plane"]
        self.ports = ports
        self.release = args["charts"].release(
            "gateway",
            name,
            control_plane.namespace,
            merged(merged({**_DEFAULTS, "revision": control_plane.revision}, values), args.get("values", {})),
            cluster.options(self, control_plane.istiod),
        )
        found = run(
            f"{name}-addresses",
            GATEWAY_ADDRESSES,
            {
                "kubeconfig": cluster.kubeconfig,
                "namespace": control_plane.namespace,
                "service": name,
                "ports": ports,
                "node_addresses": cluster.node_addresses,
                "nodes": cluster.node_names,
                "timeout_seconds": ADDRESS_SECONDS,
            },
            pulumi.ResourceOptions(
                parent=self, depends_on=[self.release, *cluster.ready], deleted_with=cluster.made_by
            ),
        )
        self.addresses = pulumi.Output.unsecret(found.result["addresses"])


class IngressGatewayArgs(GatewayArgs):
    """The ingress gateway."""

    ports: IngressPorts
    """Those of the Service."""


class IngressGateway(Gateway):
    """Where users' traffic enters the mesh."""

    def __init__(self, name: str, args: IngressGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Install it on its ports; behind the Service Envoy keeps to 15021, 80 and 443."""
        wanted = args["ports"]
        ports = {"status-port": wanted.status, "http2": wanted.http, "https": wanted.https}
        targets = {"status-port": 15021, "http2": 80, "https": 443}
        listed = [{"name": key, "port": ports[key], "targetPort": targets[key], "protocol": "TCP"} for key in ports]
        super().__init__(name, args, ports, {"service": {"ports": listed}}, opts, kind="IngressGateway")
        self.register_outputs({"addresses": self.addresses})


class EastWestGatewayArgs(GatewayArgs):
    """The east-west gateway. Its ports are the Service's; nothing else in the mesh may name them by another number."""

    network: str
    """The Istio network it leads into."""
    exposed: Sequence[str]
    """Services that other networks reach through it, `namespace/name` each; istiod always is."""
    ports: EastWestPorts
    """Those of the Service: `services` by SNI (AUTO_PASSTHROUGH), `istiod` for VMs' xDS and CA."""


class EastWestGateway(Gateway):
    """Where other networks, and the VMs in them, enter the mesh: istiod of its revision, and the exposed services by SNI."""

    istiod_port: int
    """What `CA_ADDR` and `discoveryAddress` of a VM have to name."""

    def __init__(self, name: str, args: EastWestGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Install it and expose istiod and the services of the mesh through it."""
        wanted = args["ports"]
        self.istiod_port = wanted.istiod
        ports = {
            "status-port": wanted.status,
            "tls": wanted.services,
            "tls-istiod": wanted.istiod,
            "tls-webhook": wanted.webhook,
        }
        targets = {"status-port": 15021, "tls": 15443, "tls-istiod": 15012, "tls-webhook": 15017}
        values: dict[str, Any] = {
            "networkGateway": args["network"],
            "networkGatewayPorts": {key: {"port": ports[key], "targetPort": targets[key]} for key in ports},
            "labels": {"istio": "eastwestgateway", "networking.istio.io/gatewayPort": str(wanted.services)},
        }
        super().__init__(name, args, ports, values, opts, kind="EastWestGateway")
        self._expose(name, args["cluster"], args["control_plane"], args["exposed"])
        self.register_outputs({"addresses": self.addresses, "istiodPort": self.istiod_port})

    def _expose(self, name: str, cluster: ClusterAccess, control_plane: ControlPlane, exposed: Sequence[str]) -> None:
        """After istio's samples/multicluster/expose-istiod-rev.yaml.tmpl and expose-services.yaml.

        A VirtualService whose port is not exactly its Gateway's loses its listener without a word, hence one value for both.
        """
        options = cluster.options(self, control_plane.istiod)
        servers = [("tls-istiod", self.ports["tls-istiod"], 15012), ("tls-webhook", self.ports["tls-webhook"], 443)]
        _object(
            f"{name}-istiod",
            "Gateway",
            control_plane,
            {
                "selector": {"istio": "eastwestgateway"},
                "servers": [_passthrough(port, label) for label, port, _ in servers],
            },
            options,
        )
        sni = [control_plane.istiod_host, f"{control_plane.istiod_host}.cluster.local"]
        _object(
            f"{name}-istiod-{control_plane.revision}",
            "VirtualService",
            control_plane,
            {
                "hosts": ["*"],
                "gateways": [f"{name}-istiod"],
                "tls": [_route(port, sni, f"{control_plane.istiod_host}.cluster.local", to) for _, port, to in servers],
            },
            options,
        )
        if exposed:
            _object(
                f"{name}-services", "Gateway", control_plane, _auto_passthrough(self.ports["tls"], exposed), options
            )


def _object(
    name: str, kind: str, control_plane: ControlPlane, spec: Mapping[str, Any], opts: pulumi.ResourceOptions
) -> None:
    istio_object(f"{name}-{kind.lower()}", NETWORKING, kind, name, control_plane.namespace, spec, opts)


def _auto_passthrough(port: int, exposed: Sequence[str]) -> dict[str, Any]:
    """The gateway has a way for the SNI of these services and their subsets; any other connection is closed."""
    named = (entry.split("/") for entry in sorted(exposed))
    server = {
        "port": {"number": port, "name": "tls", "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": [host(service, namespace) for namespace, service in named],
    }
    return {"selector": {"istio": "eastwestgateway"}, "servers": [server]}


def _passthrough(port: int, name: str) -> dict[str, Any]:
    return {"port": {"number": port, "name": name, "protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}, "hosts": ["*"]}


def _route(port: int, sni: Sequence[str], host: str, to: int) -> dict[str, Any]:
    return {
        "match": [{"port": port, "sniHosts": list(sni)}],
        "route": [{"destination": {"host": host, "port": {"number": to}}}],
    }
