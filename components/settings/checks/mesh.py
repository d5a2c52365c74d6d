"""The mesh: its gateways' ports, its namespaces, and what other networks reach."""

from __future__ import annotations

from collections.abc import Iterator

from components.settings.checks.references import check_app, check_namespace
from components.settings.problems import PROJECT, Problem, duplicates
from components.settings.registry import HELLOWORLD, Registry
from components.settings.tables import ChartValues, MeshSettings, TrafficSettings

_AT = f"{PROJECT}:mesh"
_NODE_PORTS = {22: "sshd", 6443: "the Kubernetes API", 10250: "the kubelet"}
_REVISION_VALUES = ("revision", "revisionTags", "defaultRevision")
_FOREIGN_NAMESPACES = {"default", "istio-system", "kube-node-lease", "kube-public", "kube-system"}


def check_mesh(mesh: MeshSettings, node_ports: bool = True) -> Iterator[Problem]:
    """Charts come from one place, and no gateway has a port twice; those that get the nodes' ports share them without a clash."""
    if (mesh.charts.repository is None) == (mesh.charts.directory is None):
        yield Problem(f"{_AT}.charts", "should have either repository or directory")
    taken: dict[int, str] = dict(_NODE_PORTS) if node_ports else {}
    why = "ServiceLB gives both gateways the same nodes' ports, so" if node_ports else "in one gateway"
    for table, ports in (("ingressPorts", mesh.ingress_ports), ("eastWestPorts", mesh.east_west_ports)):
        if not node_ports:
            taken.clear()
        for field, port in ports:
            if port in taken:
                yield Problem(
                    f"{_AT}.{table}.{field}",
                    f"{port}: is already taken by {taken[port]}; {why} each should be used once",
                )
            taken.setdefault(port, f"mesh.{table}.{field}")
    yield from duplicates(
        ((f"{_AT}.namespaces[{i}]", name) for i, name in enumerate(mesh.namespaces)), "this namespace"
    )
    yield from _check_revision_values(mesh.values)


def _check_revision_values(values: ChartValues) -> Iterator[Problem]:
    """Which revision there is, and which is the default one, is said once: a chart told otherwise would move too early, or not at all."""
    for chart, given in values:
        for key in (key for key in _REVISION_VALUES if key in given):
            yield Problem(
                f"{_AT}.values.{chart}.{key}",
                f"{given[key]!r}: follows from mesh.revision, which is also the default one; should be left out",
            )
    experimental = values.base.get("experimental")
    if isinstance(experimental, dict) and "stableValidationPolicy" in experimental:
        yield Problem(
            f"{_AT}.values.base.experimental.stableValidationPolicy",
            "is about the default revision, which is not base's here; should be left out, or given to istiod",
        )


def check_namespaces(registry: Registry) -> Iterator[Problem]:
    """Namespaces of the mesh are the stack's to make, and none is the one that the samples keep out of it."""
    named = [(f"{_AT}.namespaces[{i}]", name) for i, name in enumerate(registry.mesh.namespaces)]
    named += [(f"{PROJECT}:workloads[{i}].namespace", w.namespace) for i, w in enumerate(registry.workloads)]
    if registry.samples.enabled:
        named += [(f"{PROJECT}:samples.namespace", registry.samples.namespace)]
    for path, name in named:
        if name in _FOREIGN_NAMESPACES:
            yield Problem(
                path, f"{name!r}: belongs to Kubernetes or Istio; should be a namespace for the stack to make"
            )
        if name == registry.outside_namespace:
            yield Problem(path, f"{name!r}: is where the samples have pods without sidecars; should be another name")


def check_exposed_services(registry: Registry, traffic: tuple[TrafficSettings, ...]) -> Iterator[Problem]:
    """Services behind the east-west gateway exist, and helloworld is one where VMs behind it are to prove traffic."""
    at, exposed = f"{_AT}.exposedServices", registry.mesh.exposed_services
    yield from duplicates(((f"{at}[{i}]", name) for i, name in enumerate(exposed)), "this Service")
    for i, name in enumerate(exposed):
        namespace, _, service = name.partition("/")
        made = [t.service for t in traffic if t.app and t.namespace == namespace]
        yield from check_namespace(f"{at}[{i}]", namespace, registry)
        yield from check_app(f"{at}[{i}]", namespace, service, registry, made)
    needed = f"{registry.samples.namespace}/{HELLOWORLD}"
    callers = [w.name for w in registry.proven() if w.network != registry.mesh.network]
    if callers and needed not in exposed:
        yield Problem(
            at,
            f"{list(exposed)}: should have {needed}: when `up` proves traffic, the VMs of {', '.join(callers)} call it "
            "through the east-west gateway",
        )
