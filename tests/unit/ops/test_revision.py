"""What a change of revision would break on, and pods that one has left behind."""

from typing import Any

import pytest

from ops import revision
from ops.errors import OpsError
from ops.repair import repair
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, command, secret, urn

STACK_FILE = "config:\n  istio-vms:machines: {driver: nspawn}\n  istio-vms:mesh: {revision: new}\n"


@pytest.fixture(autouse=True)
def wanted(world: World) -> None:
    world.project.joinpath("Pulumi.lab.yaml").write_text(STACK_FILE)


def istiod(name: str, protect: bool = False, **values: Any) -> dict[str, Any]:
    inputs = {"name": f"istiod-{name}", "values": secret({"revision": name, **values})}
    made = {"urn": urn(revision.RELEASE, f"istiod-{name}"), "custom": True, "type": revision.RELEASE, "inputs": inputs}
    return {**made, "protect": True} if protect else made


def of(*resources: dict[str, Any]) -> dict[str, Any]:
    other = {
        "urn": urn(revision.RELEASE, "istio-base"),
        "type": revision.RELEASE,
        "protect": True,
        "inputs": {"values": {}},
    }
    return {"resources": [other, *resources]}


@pytest.mark.parametrize(
    "resources",
    [
        [],
        [istiod("old")],
        [istiod("old"), istiod("new", protect=True)],
        [istiod("new", revisionTags=["default"])],
    ],
)
def test_an_istiod_that_stays_or_can_go_is_no_problem(stack: Stack, resources: list[dict[str, Any]]) -> None:
    revision.refuse(stack, of(*resources))


def test_settings_that_name_no_revision_are_the_programs_business(stack: Stack, world: World) -> None:
    world.project.joinpath("Pulumi.lab.yaml").write_text("config:\n  istio-vms:machines: {driver: nspawn}\n")
    revision.refuse(stack, of(istiod("old", protect=True)))


@pytest.mark.parametrize(
    ("old", "says"),
    [
        (istiod("old", revisionTags=["default"]), r"istiod-old .* takes the default tag along .* with revision: old"),
        (istiod("old", protect=True), r"istiod-old is protected.* controlPlane .* to false"),
    ],
)
def test_an_istiod_that_cannot_go_is_said_before_anything_is_done(
    stack: Stack, world: World, old: dict[str, Any], says: str
) -> None:
    world.put("deployment.json", of(old))
    with pytest.raises(OpsError, match=says):
        repair(stack)
    repair(stack, to_destroy=True)


def reinjection(api: Api) -> dict[str, Any]:
    document = {"kubeconfig": api.kubeconfig, "namespaces": ["sample"], "revision": "new"}
    return command("reinjection", "mesh.reinject", document, hidden=True, printed={"restarted": []})


def pod(name: str, revision: str) -> dict[str, Any]:
    annotations = {"sidecar.istio.io/status": f'{{"revision": "{revision}"}}'}
    return {"metadata": {"name": name, "namespace": "sample", "annotations": annotations}, "spec": {}}


def test_pods_that_a_change_left_behind_are_restarted_by_pulumi(
    stack: Stack, world: World, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = reinjection(api)
    world.put("deployment.json", of(resource))
    api.objects["/api/v1/namespaces/sample/pods"] = {"items": [pod("a", "new"), pod("b", "old"), pod("c", "old")]}
    assert repair(stack).replace == [resource["urn"]]
    said = "repair: pod sample/b has a sidecar of revision old instead of new (nothing makes it anew) and 1 more; to be restarted"
    assert said in capsys.readouterr().out
    api.objects["/api/v1/namespaces/sample/pods"] = {"items": [pod("a", "new")]}
    assert repair(stack).replace == []


def test_a_cluster_that_does_not_answer_is_none_of_its_business(api: Api) -> None:
    api.url = "http://127.0.0.1:9"
    assert revision.left_behind(of(reinjection(api))) == []
