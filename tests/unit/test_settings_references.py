"""Settings that refer to each other: what does not fit is named with its path, and nothing else is."""

from typing import Any

import pytest

from components.samples import helloworld
from components.settings import registry
from tests.unit.test_settings import DEV, LAB, parse, problems, put, without_samples

HELLO = "sample/helloworld"
CALLERS = ["sample/curl", "vmns/external-app", "sample/helloworld-vm"]
POLICY = {"name": "helloworld", "namespace": "sample", "app": "helloworld", "allow": CALLERS}
SHIFT = LAB["traffic"][0]
ALL_TO_VM = {**SHIFT, "routes": [{"shares": {"v1": 0, "vm": 100}}]}
NOWHERE = "is no namespace of the mesh, which has sample, sample-guarded, vmns"
TWICE = "already used"


def edited(tables: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    for path, value in changes:
        tables = put(tables, path, value)
    return tables


def logs_of(*namespaces: str) -> dict[str, Any]:
    return {"accessLogs": "namespaces", "namespaces": list(namespaces)}


def second_workload(**changes: Any) -> dict[str, Any]:
    """A further workload like the first, without VMs."""
    return {**LAB["workloads"][0], "name": "second", "vms": [], **changes}


@pytest.mark.parametrize(
    ("path", "value", "at", "says"),
    [
        # namespaces and exposed Services
        ("mesh.namespaces", ["extra", "extra"], "mesh.namespaces[1]", TWICE),
        ("mesh.namespaces", ["istio-system"], "mesh.namespaces[0]", "belongs to Kubernetes or Istio"),
        ("mesh.namespaces", ["sample-outside"], "mesh.namespaces[0]", "pods without sidecars"),
        ("mesh.exposedServices", [HELLO, HELLO], "mesh.exposedServices[1]", TWICE),
        ("mesh.exposedServices", [HELLO, "mars/web"], "mesh.exposedServices[1]", NOWHERE),
        ("mesh.exposedServices", [HELLO, "sample/web"], "mesh.exposedServices[1]", "has helloworld, helloworld-shift;"),
        ("mesh.exposedServices", ["vmns/external-app"], "mesh.exposedServices", f"should have {HELLO}"),
        # what follows from mesh.revision
        ("mesh.values.istiod.revision", "x", "mesh.values.istiod.revision", "'x': follows from mesh.revision"),
        ("mesh.values.istiod.revisionTags", ["a"], "mesh.values.istiod.revisionTags", "should be left out"),
        ("mesh.values.base.defaultRevision", "", "mesh.values.base.defaultRevision", "should be left out"),
        ("mesh.values.gateway.revision", "x", "mesh.values.gateway.revision", "should be left out"),
        (
            "mesh.values.base.experimental",
            {"stableValidationPolicy": True},
            "mesh.values.base.experimental.stableValidationPolicy",
            "given to istiod",
        ),
        # workloads
        ("workloads.1.vms.0.network", "vm", "workloads[1].vms[0].network", "attach the VM to machine network cluster"),
        ("workloads.1.ports.0.name", "http-web", "workloads[1].ports", "should be http 5000, as of the helloworld"),
        # policies
        ("policies.namespaceMtls", {"mars": "STRICT"}, "policies.namespaceMtls.mars", NOWHERE),
        ("policies.authorization", [POLICY, POLICY], "policies.authorization[1].name", TWICE),
        ("policies.authorization.1.namespace", "sample-outside", "policies.authorization[1].namespace", NOWHERE),
        ("policies.authorization.1.app", "web", "policies.authorization[1].app", "vmns, which has external-app;"),
        ("policies.authorization.0.allow", CALLERS[1:], "policies.authorization[0].allow", "should have sample/curl"),
        ("policies.authorization.0.allow", CALLERS[::2], "policies.authorization[0].allow", "have vmns/external-app"),
        ("policies.authorization.1.allow", CALLERS[1:], "policies.authorization[1].allow", "should have sample/curl"),
        ("policies.egressGuards.0.namespace", "mars", "policies.egressGuards[0].namespace", NOWHERE),
        (
            "policies.egressGuards.0.workloads",
            ["vmns/external-app", "vmns/web"],
            "policies.egressGuards[0].workloads[1]",
            "there is sample/helloworld-vm, vmns/external-app",
        ),
        (
            "policies.egressGuards",
            [{"namespace": "vmns", "workloads": [name]} for name in ("vmns/external-app", "sample/helloworld-vm")],
            "policies.egressGuards[1].namespace",
            TWICE,
        ),
        ("policies.egressGuards.0.namespace", "sample", "policies.egressGuards[0].namespace", "proves traffic"),
        # telemetry
        ("telemetry.accessLogs", "namespaces", "telemetry.namespaces", "missing"),
        ("telemetry.namespaces", ["vmns"], "telemetry.namespaces", "it is mesh"),
        ("telemetry", logs_of("mars"), "telemetry.namespaces[0]", NOWHERE),
        ("telemetry", logs_of("vmns", "vmns"), "telemetry.namespaces[1]", TWICE),
        # traffic
        ("traffic", [SHIFT, SHIFT], "traffic[1].service", TWICE),
        ("traffic.1.namespace", "mars", "traffic[1].namespace", NOWHERE),
        ("traffic.0.app", None, "traffic[0].app", "go together"),
        ("traffic.0.port", None, "traffic[0].port", "go together"),
        ("traffic.0.app", "web", "traffic[0].app", "which has helloworld;"),
        ("traffic.0.service", "helloworld", "traffic[0].service", "is a Service of the stack already"),
        ("traffic.0.port.name", "tcp", "traffic[0].port.name", "tcp: requests are seen on ports of HTTP"),
        ("workloads.0.ports.0.name", "tcp-app", "traffic[1].service", "tcp-app: requests are seen on ports of HTTP"),
        ("traffic.1.service", "web", "traffic[1].service", "which has external-app;"),
        ("traffic.1.versions", ["vm", "v9"], "traffic[1].versions[1]", "app external-app has versions vm"),
        ("traffic.1.versions", ["vm", "vm"], "traffic[1].versions[1]", TWICE),
        ("traffic.0.routes.1.shares", {"v1": 80, "vm": 10}, "traffic[0].routes[1].shares", "add up to 90"),
        ("traffic.0.routes.1.shares", {"v1": 100, "vm": 10}, "traffic[0].routes[1].shares", "add up to 110"),
        ("traffic.0.routes.1.shares", {"v2": 100}, "traffic[0].routes[1].shares.v2", "one of versions: v1, vm"),
        ("traffic.0.routes", SHIFT["routes"][:1], "traffic[0].routes[0]", "the last route should have none"),
        ("traffic.0.routes", SHIFT["routes"][1:] * 2, "traffic[0].routes[0]", "should be the last route"),
        ("traffic.0", {**ALL_TO_VM, "outliers": {"v1": {}}}, "traffic[0].outliers.v1", "route sends to: vm"),
        ("traffic.1.routes", [], "traffic[1].outliers.vm", "sends to: none"),
    ],
)
def test_what_does_not_fit_is_named(path: str, value: Any, at: str, says: str) -> None:
    found = problems(put(LAB, path, value))
    assert list(found) == [at], found
    assert says in found[at]


RIGHT: dict[str, list[tuple[str, Any]]] = {
    "exposed Service that traffic makes": [("mesh.exposedServices", [HELLO, "sample/helloworld-shift"])],
    "anything in a namespace of others": [
        ("mesh.namespaces", ["shop"]),
        ("mesh.exposedServices", [HELLO, "shop/cart"]),
        ("policies.authorization.1", {"name": "cart", "namespace": "shop", "app": "cart", "allow": ["shop/web"]}),
        ("traffic.1", {"service": "cart", "namespace": "shop", "versions": ["v7"]}),
    ],
    "app of others beside a workload": [
        ("mesh.namespaces", ["vmns"]),
        ("policies.authorization.1.app", "web"),
        ("traffic.1.versions", ["vm", "v9"]),
    ],
    "name of a policy in another namespace": [("policies.authorization.1.name", "helloworld")],
    "policies of one app add up": [
        ("policies.authorization", [{**POLICY, "name": f"from-{i}", "allow": [one]} for i, one in enumerate(CALLERS)]),
    ],
    "guard of a workload's own namespace": [("policies.egressGuards.0.namespace", "vmns")],
    "guard of VMs that are not proven": [
        ("policies.egressGuards", [{"namespace": "sample", "workloads": ["vmns/second"]}]),
        ("workloads", [*LAB["workloads"], second_workload()]),
    ],
    "logs of namespaces": [("telemetry", logs_of("vmns", "sample-guarded"))],
    "app of another workload": [
        ("workloads", [*LAB["workloads"], second_workload(app="external-app", version="second")]),
        ("traffic.1.versions", ["vm", "second"]),
    ],
    "single-network without VMs": [("workloads", [*LAB["workloads"], second_workload(network="cluster-network")])],
    "share of nothing": [("traffic.0.routes.1.shares", {"v1": 100, "vm": 0})],
    "calls to any endpoint": [("traffic.1.routes", []), ("traffic.1.outliers", {})],
    "nobody behind the gateway": [("workloads.0.application", "none"), ("mesh.exposedServices", [])],
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_fits_is_taken(case: str) -> None:
    assert parse(edited(LAB, *RIGHT[case]))


def test_workloads_behind_one_service_have_the_same_ports() -> None:
    second = second_workload(app="external-app", ports=[{"name": "http", "port": 8001}], application="none")
    found = problems(put(LAB, "workloads", [*LAB["workloads"], second]))
    assert list(found) == ["workloads[2].ports"]
    assert "http 8001: should be http 8000, as of istio-vms:workloads[0].ports" in found["workloads[2].ports"]


def test_the_samples_are_as_the_checks_take_them() -> None:
    assert [(port.name, port.port) for port in registry.HELLOWORLD_PORTS] == [("http", helloworld.PORT)]
    assert (registry.HELLOWORLD, registry.CLIENT) == (helloworld.SERVICE, helloworld.CLIENT)


def test_every_vm_of_a_single_network_workload_is_on_the_nodes_network() -> None:
    found = problems(put(LAB, "workloads.0.network", "cluster-network"))
    assert set(found) == {"workloads[0].vms[1].network", "workloads[0].vms[2].network"}
    assert parse(put(DEV, "workloads.0.network", "cluster-network"), "dev"), (
        "Multipass has one network for all machines"
    )


def test_the_stack_makes_the_namespaces_of_workloads_and_samples() -> None:
    tables = edited(
        without_samples(LAB),
        ("workloads.0.namespace", "kube-system"),
        ("samples", {"enabled": True, "namespace": "default"}),
        ("mesh.exposedServices", ["default/helloworld"]),
    )
    assert set(problems(tables)) == {"workloads[0].namespace", "samples.namespace"}


def test_without_samples_nothing_of_them_is_there_to_refer_to() -> None:
    found = problems(put(LAB, "samples.enabled", False))
    assert set(found) == {"policies.egressGuards[0].namespace", "traffic[0].versions[0]"}


def test_without_samples_no_call_is_there_to_stand_in_the_way_of() -> None:
    tables = edited(
        without_samples(LAB),
        ("policies.authorization", [{**POLICY, "allow": ["vmns/nobody"]}]),
        ("policies.egressGuards", [{"namespace": "sample"}]),
        ("workloads.1.ports.0.name", "http-web"),
    )
    assert parse(tables)


def test_all_that_does_not_fit_is_named_at_once() -> None:
    tables = edited(
        LAB,
        ("mesh.exposedServices", ["mars/web"]),
        ("workloads.1.vms.0.network", "vm"),
        ("workloads.1.ports.0.name", "http-web"),
        ("policies.namespaceMtls", {"mars": "STRICT"}),
        ("policies.authorization.1.allow", ["mars/nobody"]),
        ("telemetry.namespaces", ["vmns"]),
        ("traffic.0.routes.1.shares", {"v1": 80}),
    )
    assert set(problems(tables)) == {
        "mesh.exposedServices",
        "mesh.exposedServices[0]",
        "workloads[1].vms[0].network",
        "workloads[1].ports",
        "policies.namespaceMtls.mars",
        "policies.authorization[1].allow",
        "telemetry.namespaces",
        "traffic[0].routes[1].shares",
    }


@pytest.mark.parametrize("table", ["mesh", "workloads", "samples"])
def test_a_table_that_does_not_parse_does_not_make_others_wrong(table: str) -> None:
    assert set(problems({**LAB, table: "nonsense"})) == {table}


@pytest.mark.parametrize("table", ["policies", "telemetry", "traffic"])
def test_a_table_that_does_not_parse_does_not_hide_others(table: str) -> None:
    tables = {**put(LAB, "mesh.namespaces", ["default"]), table: "nonsense"}
    assert set(problems(tables)) == {table, "mesh.namespaces[0]"}


def test_the_namespaces_of_the_mesh() -> None:
    lab = parse(put(LAB, "mesh.namespaces", ["shop", "vmns"]))
    assert lab.namespaces() == ["sample", "sample-guarded", "shop", "vmns"]
    assert (lab.guarded_namespace, lab.outside_namespace) == ("sample-guarded", "sample-outside")
    bare = parse(without_samples(LAB))
    assert (bare.namespaces(), bare.guarded_namespace, bare.outside_namespace) == (["sample", "vmns"], None, None)


def test_the_service_of_a_workload_is_its_app() -> None:
    assert [workload.service for workload in parse(LAB).workloads] == ["external-app", "helloworld"]
