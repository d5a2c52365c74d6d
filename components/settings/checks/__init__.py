"""Checks that need more than one value, of one table or of several."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from components.settings.artifacts import check_artifacts
from components.settings.checks.chart_values import check_chart_values
from components.settings.checks.k3s import check_k3s
from components.settings.checks.machines import check_machines, check_stack
from components.settings.checks.mesh import check_exposed_services, check_mesh, check_namespaces
from components.settings.checks.policies import check_policies, check_telemetry
from components.settings.checks.traffic import check_traffic
from components.settings.checks.workloads import check_routes_to_pods, check_services, check_workloads
from components.settings.problems import Problem
from components.settings.registry import Registry
from components.settings.tables import (
    AnyCluster,
    ClusterSettings,
    MachinesSettings,
    MeshSettings,
    PolicySettings,
    SampleSettings,
    TelemetrySettings,
    TrafficSettings,
    WorkloadSettings,
)


def check(stack: str, parsed: Mapping[str, Any], incomplete: Collection[str] = ()) -> Iterator[Problem]:
    """All of them. A table that did not parse is not in `parsed`: it takes its own checks with it, not the others'.

    Of a table in `incomplete` some entries are missing, so that a name which is in none may be right all the same.
    """
    machines: MachinesSettings | None = parsed.get("machines")
    cluster: AnyCluster | None = parsed.get("cluster")
    mesh: MeshSettings | None = parsed.get("mesh")
    workloads: tuple[WorkloadSettings, ...] | None = parsed.get("workloads")
    samples: SampleSettings | None = parsed.get("samples")
    yield from check_stack(stack)
    yield from check_machines(stack, machines, cluster, workloads or ())
    if isinstance(cluster, ClusterSettings):
        yield from check_k3s(cluster, mesh, parsed.get("policies"))
    if machines:
        yield from check_artifacts(machines, cluster, mesh)
    if mesh:
        # Of another cluster it is not known whether its load balancer gives gateways the nodes' ports.
        yield from check_mesh(mesh, node_ports=isinstance(cluster, ClusterSettings))
        yield from check_chart_values(mesh)
    yield from check_workloads(workloads or ())
    if mesh and cluster:
        yield from check_routes_to_pods(workloads or (), mesh, cluster)
    if mesh and samples and workloads is not None and "workloads" not in incomplete:
        yield from _check_references(Registry(mesh, workloads, samples), parsed)


def _check_references(registry: Registry, parsed: Mapping[str, Any]) -> Iterator[Problem]:
    policies: PolicySettings | None = parsed.get("policies")
    telemetry: TelemetrySettings | None = parsed.get("telemetry")
    traffic: tuple[TrafficSettings, ...] | None = parsed.get("traffic")
    yield from check_namespaces(registry)
    yield from check_services(registry)
    if traffic is not None:
        yield from check_exposed_services(registry, traffic)
        yield from check_traffic(traffic, registry)
    if policies:
        yield from check_policies(policies, registry)
    if telemetry:
        yield from check_telemetry(telemetry, registry)
