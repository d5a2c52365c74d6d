"""Workloads: their ports, the Services they share, and the routes that single-network VMs need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from components.settings.problems import PROJECT, Problem, duplicates
from components.settings.registry import HELLOWORLD, HELLOWORLD_PORTS, Registry
from components.settings.tables import AnyCluster, MeshSettings, ServicePort, WorkloadSettings

_AT = f"{PROJECT}:workloads"


def check_workloads(workloads: tuple[WorkloadSettings, ...]) -> Iterator[Problem]:
    """Names and ports are used once, and the probe asks a port that something listens on."""
    yield from duplicates(
        ((f"{_AT}[{i}].name", f"{w.namespace}/{w.name}") for i, w in enumerate(workloads)), "this workload"
    )
    for i, workload in enumerate(workloads):
        for attribute in ("name", "port"):
            values = (
                (f"{_AT}[{i}].ports[{j}].{attribute}", str(getattr(p, attribute))) for j, p in enumerate(workload.ports)
            )
            yield from duplicates(values, f"this port {attribute}")
        if workload.application == "sample" and workload.probe.port not in {p.port for p in workload.ports}:
            yield Problem(
                f"{_AT}[{i}].probe.port",
                f"{workload.probe.port}: the sample application listens on the workload's ports only",
            )


def check_routes_to_pods(
    workloads: tuple[WorkloadSettings, ...], mesh: MeshSettings, cluster: AnyCluster
) -> Iterator[Problem]:
    """Single-network VMs are on the nodes' own machine network: pods are routed to by the address of their node."""
    for i, workload in enumerate(workloads):
        for j, vm in enumerate(workload.vms):
            if workload.network == mesh.network and vm.network != cluster.network:
                yield Problem(
                    f"{_AT}[{i}].vms[{j}].network",
                    f"{vm.network!r}: workload {workload.name} is in the pods' own Istio network {mesh.network} "
                    "(single-network), which needs a route to pods by their node's address; attach the VM to machine "
                    f"network {cluster.network} or give the workload an Istio network of its own",
                )


def check_services(registry: Registry) -> Iterator[Problem]:
    """Workloads behind one Service have the same ports, which are the sample's own where helloworld is that Service."""
    made: dict[tuple[str, str], tuple[str, set[str]]] = {}
    if registry.samples.enabled:
        made[registry.samples.namespace, HELLOWORLD] = ("the helloworld sample", _ports(HELLOWORLD_PORTS))
    for i, workload in enumerate(registry.workloads):
        at, ports = f"{_AT}[{i}].ports", _ports(workload.ports)
        owner, wanted = made.setdefault((workload.namespace, workload.service), (at, ports))
        if ports != wanted:
            yield Problem(
                at,
                f"{_listed(ports)}: should be {_listed(wanted)}, as of {owner}: app {workload.service} has one Service "
                f"in namespace {workload.namespace}",
            )


def _ports(ports: Iterable[ServicePort]) -> set[str]:
    return {f"{port.name} {port.port}" for port in ports}


def _listed(ports: set[str]) -> str:
    return ", ".join(sorted(ports))
