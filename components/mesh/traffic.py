"""How calls of a Service are divided between versions, on pods and VMs alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pulumi

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane
from components.mesh.objects import NETWORKING, host, istio_object
from components.names import formerly, resource_name
from components.settings import OutlierSettings, RetrySettings, RouteSettings

RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,reset,5xx"
"""What Istio retries by itself (its pilot/pkg/networking/core/route/retry), broken connections, and answers of 500 or more.

Whatever the method: an application may get a call that it failed at again.
"""


class TrafficRoutingArgs(TypedDict):
    """One Service's traffic."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    namespace: pulumi.Input[str]
    """The Service's namespace."""
    namespace_name: str
    """Its name, which is part of the Service's host name, and of the resources'."""
    service: str
    """The Service's name, which its two rules get too."""
    versions: Sequence[str]
    """Values of the label `version`, a subset each."""
    routes: Sequence[RouteSettings]
    """The first that a request matches; without any, requests go to every endpoint, of whatever version."""
    retries: RetrySettings | None
    """Of every route; None for Istio's own."""
    outliers: Mapping[str, OutlierSettings]
    """By version. Only calls that a route sends to the version are counted."""


class TrafficRouting(pulumi.ComponentResource):
    """A DestinationRule with a subset for each version, and a VirtualService over them. Both are about ports of HTTP and gRPC."""

    def __init__(self, name: str, args: TrafficRoutingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Apply the rules, before the routes that name their subsets."""
        super().__init__("istio-vms:mesh:TrafficRouting", name, None, opts)
        cluster, crds, key = args["cluster"], args["control_plane"].crds, (args["namespace_name"], args["service"])
        former = f"traffic-{'-'.join(key)}"
        rule = istio_object(
            resource_name("DestinationRule", key),
            NETWORKING,
            "DestinationRule",
            args["service"],
            args["namespace"],
            destination_rule(host(args["service"], args["namespace_name"]), args["versions"], args["outliers"]),
            cluster.options(self, crds, formerly=[formerly(f"{former}-rule")]),
        )
        istio_object(
            resource_name("VirtualService", key),
            NETWORKING,
            "VirtualService",
            args["service"],
            args["namespace"],
            virtual_service(host(args["service"], args["namespace_name"]), args["routes"], args["retries"]),
            cluster.options(self, rule, formerly=[formerly(f"{former}-routes")]),
        )
        self.register_outputs({})


def destination_rule(name: str, versions: Sequence[str], outliers: Mapping[str, OutlierSettings]) -> dict[str, Any]:
    """A subset for each version. No policy has `tls`, which leaves mutual TLS to Istio, in subsets too."""
    subsets: list[dict[str, Any]] = []
    for version in versions:
        subset: dict[str, Any] = {"name": version, "labels": {"version": version}}
        if version in outliers:
            subset["trafficPolicy"] = {"outlierDetection": _outlier_detection(outliers[version])}
        subsets.append(subset)
    return {"host": name, "subsets": subsets}


def virtual_service(name: str, routes: Sequence[RouteSettings], retries: RetrySettings | None) -> dict[str, Any]:
    """The routes in their order, or one to every endpoint where there are none."""
    common: dict[str, Any] = {}
    if retries:
        common["retries"] = {
            "attempts": retries.attempts,
            "perTryTimeout": f"{retries.per_try_seconds}s",
            "retryOn": RETRY_ON,
        }
    everything: list[dict[str, Any]] = [{"route": [{"destination": {"host": name}}], **common}]
    return {"hosts": [name], "http": [_http(name, route) | common for route in routes] or everything}


def _http(name: str, route: RouteSettings) -> dict[str, Any]:
    match = {header: {"exact": value} for header, value in route.headers.items()}
    destinations = [
        {"destination": {"host": name, "subset": version}, "weight": share} for version, share in route.shares.items()
    ]
    return {**({"match": [{"headers": match}]} if match else {}), "route": destinations}


def _outlier_detection(outliers: OutlierSettings) -> dict[str, Any]:
    """Any number of endpoints may be left out: 10 percent, the default, of a few VMs is not one."""
    return {
        "consecutive5xxErrors": outliers.consecutive_errors,
        "interval": f"{outliers.interval_seconds}s",
        "baseEjectionTime": f"{outliers.ejection_seconds}s",
        "maxEjectionPercent": 100,
    }
