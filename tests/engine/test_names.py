"""Nobody who is renamed, goes or is switched off takes along what others need: the real program on a real API server.

Machines, releases and what is run on machines are hollow (`tests/engine/hollow`); objects are made, kept and deleted by the engine and the
stand-in as on any cluster.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.kube import ApiCluster
from lab.tools import plugins
from ops import engine, naming, workspace
from ops.event_log import EventLog
from ops.workspace import Stack
from tests.engine.harness import until
from tests.engine.hollow.answers import REAL_KUBECONFIG
from tests.engine.kube_api import KubeApi

ROOT = Path(__file__).parents[2]
HOLLOW = Path(__file__).parent / "hollow/bin"
STACK = "names"
KINDS = {
    "networking.istio.io": ("WorkloadGroup", "DestinationRule", "VirtualService", "Gateway"),
    "security.istio.io": ("AuthorizationPolicy", "PeerAuthentication"),
    "telemetry.istio.io": ("Telemetry",),
}
GROUPS = "/apis/networking.istio.io/v1/namespaces"
Settings = dict[str, Any]


def workload(namespace: str, name: str, app: str, account: str, vm: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "app": app,
        "serviceAccount": account,
        "ports": [{"name": "http", "port": 5000}],
        "probe": {"port": 5000},
        "application": "none",
        "version": "vm",
        "vms": [{"name": vm}],
        **more,
    }


def base() -> Settings:
    """One server, a VM with a Service of its own, one behind helloworld's, and every kind of object."""
    text = (ROOT / "Pulumi.dev.yaml").read_text()
    settings = {key.removeprefix("istio-vms:"): table for key, table in yaml.safe_load(text)["config"].items()}
    settings["cluster"]["agents"]["count"] = 0
    settings["workloads"] = [
        workload("vmns", "billing", "billing", "billing", "vm-1"),
        workload("sample", "helloworld-vm", "helloworld", "helloworld-vm", "vm-2"),
    ]
    settings["policies"] = {
        "authorization": [{"name": "pay", "namespace": "vmns", "app": "billing", "allow": ["sample/curl"]}]
    }
    settings["traffic"] = [
        {"service": "shift", "namespace": "sample", "app": "helloworld", "versions": ["v1", "vm"]}
        | {"port": {"name": "http", "port": 5000}},
        {"service": "billing", "namespace": "vmns", "versions": ["vm"]},
    ]
    return settings


BASE = base()


def changed(**tables: Any) -> Settings:
    return copy.deepcopy(BASE) | tables


def renamed(settings: Settings = BASE) -> Settings:
    """Its first workload has another name, its app and its account stay."""
    first, *others = settings["workloads"]
    return {**settings, "workloads": [{**first, "name": "invoices"}, *others]}


QUIET = changed(samples={"enabled": False}, policies={}, traffic=[])
QUIET["mesh"]["exposedServices"] = []
TWO = changed(
    workloads=[
        *BASE["workloads"],
        workload("team", "one", "web", "robot", "vm-3"),
        workload("team", "two", "web", "robot", "vm-4"),
    ]
)
ONE = changed(workloads=[*BASE["workloads"], TWO["workloads"][-1]])
DASHES = changed(
    workloads=[
        *BASE["workloads"],
        workload("a-b", "c", "c", "c", "vm-3"),
        workload("a", "b-c", "b-c", "b-c", "vm-4"),
    ],
    policies={
        "authorization": [
            {"name": name, "namespace": place, "app": name, "allow": ["sample/curl"]}
            for place, name in (("a-b", "c"), ("a", "b-c"))
        ]
    },
    traffic=[{"service": name, "namespace": place, "versions": ["vm"]} for place, name in (("a-b", "c"), ("a", "b-c"))],
)


@dataclass
class Checkout:
    """The repository with a stack file of its own, and the cluster that its objects are made in."""

    folder: Path
    stack: Stack
    cluster: ApiCluster

    def up(self, settings: Settings) -> dict[str, str]:
        """What the engine did to the resources that did not stay as they were."""
        tables = {f"istio-vms:{key}": table for key, table in settings.items()}
        (self.folder / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": tables}))
        with EventLog() as log:
            engine.operate(Stack.open(STACK), "up", "--yes", "--skip-preview", "--suppress-outputs", log=log)
            steps = [event["resourcePreEvent"]["metadata"] for event in log.events() if "resourcePreEvent" in event]
        return {step["urn"].rpartition("::")[2]: step["op"] for step in steps if step["op"] not in ("same", "read")}

    def uid(self, kind: str, namespace: str, name: str) -> str:
        """The identity of a Service or an account that is there; another one after it was deleted and recreated."""
        found = self.cluster.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
        assert found, f"{kind} {namespace}/{name} is gone"
        assert "deletionTimestamp" not in found["metadata"]
        return found["metadata"]["uid"]

    def services(self) -> dict[str, str]:
        """The identities of what the base's workloads are known by."""
        return {
            f"{kind} {namespace}/{name}": self.uid(kind, namespace, name)
            for kind, namespace, name in (
                ("services", "vmns", "billing"),
                ("serviceaccounts", "vmns", "billing"),
                ("services", "sample", "helloworld"),
                ("serviceaccounts", "sample", "helloworld-vm"),
            )
        }

    def edit(self, change: Any) -> None:
        """Change the state as `repair` does."""
        document = json.loads(self.stack.pulumi("stack", "export", "--stack", STACK))
        change(document["deployment"])
        file = self.folder.parent / "state.json"
        file.write_text(json.dumps(document))
        self.stack.pulumi("stack", "import", "--stack", STACK, "--file", str(file))


@pytest.fixture(scope="module")
def api(kube_api: KubeApi) -> Iterator[ApiCluster]:
    """The API server with Istio's kinds, and without this stack's namespaces afterwards."""
    cluster = ApiCluster(kube_api.kubeconfig)
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    made = [definition(group, kind) for group, kinds in KINDS.items() for kind in kinds]
    for one in made:
        cluster.create(definitions, one)
    for group in KINDS:
        until(lambda group=group: bool(cluster.get(f"/apis/{group}/v1")), 30, group)
    yield cluster
    gone = [
        f"/api/v1/namespaces/{namespace['metadata']['name']}"
        for namespace in cluster.items("/api/v1/namespaces")
        if re.fullmatch(r"vmns|sample.*|team|a|a-b|istio-system", namespace["metadata"]["name"])
    ]
    for path in [*gone, *(f"{definitions}/{one['metadata']['name']}" for one in made)]:
        cluster.delete(path)
    until(lambda: not any(cluster.get(path) for path in gone), 60, "the end of the namespaces")


def definition(group: str, kind: str) -> dict[str, Any]:
    plural = {"AuthorizationPolicy": "authorizationpolicies", "Telemetry": "telemetries"}.get(kind, f"{kind.lower()}s")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.fixture(scope="module")
def checkout(api: ApiCluster, kube_api: KubeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("names") / "checkout"
    folder.mkdir()
    for path in ROOT.iterdir():
        if not re.fullmatch(r"\.git|Pulumi\..+\.yaml", path.name):
            (folder / path.name).symlink_to(path)
    (folder / f"Pulumi.{STACK}.yaml").write_text("config: {}")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PULUMI_")]:
            patch.delenv(name)
        patch.setattr(plugins, "STAND_INS", HOLLOW)
        patch.setenv("PULUMI_HOME", str(folder.parent / "pulumi"))  # no official providers
        patch.setenv("XDG_STATE_HOME", str(folder.parent / "state"))
        patch.setenv(REAL_KUBECONFIG, kube_api.kubeconfig)
        patch.setattr(workspace, "ROOT", folder)
        patch.setattr(engine, "ROOT", folder)
        yield Checkout(folder, Stack.open(STACK), api)


@pytest.fixture
def there(checkout: Checkout) -> Checkout:
    """The base, up."""
    checkout.up(BASE)
    return checkout


def test_a_renamed_workload_keeps_its_service_and_its_account(there: Checkout) -> None:
    known = there.services()
    for settings, name, other in ((renamed(), "invoices", "billing"), (BASE, "billing", "invoices")):
        steps = there.up(settings)
        assert there.services() == known
        assert steps[f"workloadgroup/vmns/{name}"] == "create"
        assert steps[f"workloadgroup/vmns/{other}"] == "delete"
        assert there.cluster.get(f"{GROUPS}/vmns/workloadgroups/{name}")
        assert not there.cluster.get(f"{GROUPS}/vmns/workloadgroups/{other}")
        assert there.up(settings) == {}


def test_the_first_of_two_workloads_takes_nothing_along_that_the_other_needs(there: Checkout) -> None:
    there.up(TWO)
    shared = [("services", "team", "web"), ("serviceaccounts", "team", "robot")]
    known = [there.uid(*one) for one in shared]
    for settings in (ONE, TWO):
        there.up(settings)
        assert [there.uid(*one) for one in shared] == known
        assert there.up(settings) == {}


def test_samples_that_are_switched_off_and_on_leave_the_service_of_a_vm(there: Checkout) -> None:
    known = there.services()
    for settings in (QUIET, BASE):
        there.up(settings)
        assert there.services() == known
        assert there.up(settings) == {}
        pods = there.cluster.items("/apis/apps/v1/namespaces/sample/deployments")
        assert bool(pods) == settings.get("samples", {}).get("enabled", False)


def test_names_that_differ_by_where_a_dash_is_are_two(there: Checkout) -> None:
    there.up(DASHES)
    for namespace, name in (("a-b", "c"), ("a", "b-c")):
        assert there.uid("services", namespace, name) and there.uid("serviceaccounts", namespace, name)
        assert there.cluster.get(f"{GROUPS}/{namespace}/workloadgroups/{name}")
        assert there.cluster.get(f"{GROUPS}/{namespace}/virtualservices/{name}")
    assert there.up(DASHES) == {}


WORKLOADS = "istio-vms:workloads:VmWorkload"
SAMPLES = "istio-vms:samples:Helloworld"
TRAFFIC = "istio-vms:mesh:TrafficRouting"
POLICIES = "istio-vms:mesh:MeshPolicies"
FORMER = {
    "vmns/billing": ("", "", "vmns-billing"),
    "sample/helloworld-vm": ("", "", "sample-helloworld-vm"),
    "traffic/sample/shift": ("", "", "traffic-sample-shift"),
    "traffic/vmns/billing": ("", "", "traffic-vmns-billing"),
    "serviceaccount/vmns/billing": (WORKLOADS, "vmns-billing", "vmns-billing-account"),
    "service/vmns/billing": (WORKLOADS, "vmns-billing", "vmns-billing-service"),
    "workloadgroup/vmns/billing": (WORKLOADS, "vmns-billing", "vmns-billing-group"),
    "serviceaccount/sample/helloworld-vm": (WORKLOADS, "sample-helloworld-vm", "sample-helloworld-vm-account"),
    "workloadgroup/sample/helloworld-vm": (WORKLOADS, "sample-helloworld-vm", "sample-helloworld-vm-group"),
    "service/sample/helloworld": (SAMPLES, "helloworld", "helloworld-service"),
    "service/sample/shift": (TRAFFIC, "traffic-sample-shift", "traffic-sample-shift-service"),
    "destinationrule/sample/shift": (TRAFFIC, "traffic-sample-shift", "traffic-sample-shift-rule"),
    "virtualservice/sample/shift": (TRAFFIC, "traffic-sample-shift", "traffic-sample-shift-routes"),
    "destinationrule/vmns/billing": (TRAFFIC, "traffic-vmns-billing", "traffic-vmns-billing-rule"),
    "virtualservice/vmns/billing": (TRAFFIC, "traffic-vmns-billing", "traffic-vmns-billing-routes"),
    "authorizationpolicy/vmns/pay": (POLICIES, "policies", "policies-authorization-vmns-pay"),
}
FORMER |= {
    f"{kind}/{namespace}/{name}": (SAMPLES, "helloworld", f"helloworld-{former}{end}")
    for kind, end in (("deployment", ""), ("serviceaccount", "-account"))
    for namespace, name, former in (
        ("sample", "helloworld-v1", "v1"),
        ("sample", "helloworld-v2", "v2"),
        ("sample", "curl", "curl"),
        ("sample", "stranger", "stranger"),
        ("sample-guarded", "curl", "guarded-curl"),
        ("sample-guarded", "plain", "guarded-plain"),
        ("sample-outside", "plain", "outside-plain"),
    )
}
"""What an earlier version called the base's resources, by what they are called now: the type and name of the component, the name."""


def as_before(deployment: dict[str, Any]) -> None:
    """Give a state of the base the names that an earlier version of the program gave."""
    resources: list[dict[str, Any]] = deployment["resources"]
    urns = {r["urn"]: _former(r["urn"]) for r in resources}
    assert len(FORMER) == len([urn for urn, former in urns.items() if urn != former]), "the table has all of them"
    for resource in resources:
        parent, name, _ = FORMER.get(resource["urn"].rpartition("::")[2], ("", "", ""))
        if parent:
            resource["parent"] = _urn(resource["urn"], parent, name)
    # What has no parent any more comes before its former one, which depends on nothing.
    makers = [resource for resource in resources if resource["type"] in (WORKLOADS, SAMPLES, TRAFFIC, POLICIES)]
    others = [resource for resource in resources if resource not in makers]
    deployment["resources"] = json.loads(_replaced(json.dumps([others[0], *makers, *others[1:]]), urns))


def _replaced(text: str, urns: Mapping[str, str]) -> str:
    for urn, former in urns.items():
        text = text.replace(f'"{urn}"', f'"{former}"')
    return text


def _former(urn: str) -> str:
    types, name = urn.split("::")[-2:]
    if name not in FORMER:
        return urn
    parent, _, former = FORMER[name]
    own = types.rpartition("$")[2]
    return _urn(urn, f"{parent}${own}" if parent else types, former)


def _urn(like: str, types: str, name: str) -> str:
    return "::".join([*like.split("::")[:2], types, name])


@pytest.mark.parametrize("by_hand", [False, True], ids=["make up", "pulumi up"])
def test_a_state_of_an_earlier_version_is_taken_over_as_it_is(there: Checkout, by_hand: bool) -> None:
    known = there.services()
    there.edit(as_before)
    if not by_hand:
        there.edit(lambda deployment: naming.rename(deployment, naming.former(deployment)))
    assert there.up(BASE) == {}
    assert there.services() == known


def test_a_maker_that_is_renamed_with_the_new_version_takes_nothing_along(there: Checkout) -> None:
    known = there.services()
    there.edit(as_before)
    there.edit(lambda deployment: naming.rename(deployment, naming.former(deployment)))
    there.up(renamed())
    assert there.services() == known


def test_an_account_that_an_earlier_version_had_twice_is_left_once(there: Checkout) -> None:
    shared = changed(workloads=[*BASE["workloads"], workload("vmns", "second", "second", "billing", "vm-3")])
    there.up(shared)
    known = there.services()

    def twice(deployment: dict[str, Any]) -> None:
        account = next(r for r in deployment["resources"] if r["urn"].endswith("::serviceaccount/vmns/billing"))
        types = f"{WORKLOADS}${account['type']}"
        component = next(r["urn"] for r in deployment["resources"] if r["urn"].endswith(f"{WORKLOADS}::vmns/second"))
        again = account | {"urn": _urn(account["urn"], types, "vmns-second-account"), "parent": component}
        deployment["resources"].append(again)

    there.edit(twice)
    there.edit(lambda deployment: naming.rename(deployment, naming.former(deployment)))
    assert there.up(shared) == {}
    assert there.services() == known
