"""Names of an earlier version in a state; `tests/engine/test_names.py` has the engine go on from what becomes of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ops import naming
from ops.repair import repair
from ops.workspace import Stack
from tests.unit.ops.conftest import World

URN = "urn:pulumi:lab::istio-vms::"
ROOT = f"{URN}pulumi:pulumi:Stack::istio-vms-lab"
GROUP = "istio-vms:workloads:VmWorkload"
ACCOUNT = "kubernetes:core/v1:ServiceAccount"


def entry(types: str, name: str, parent: str = ROOT, key: tuple[str, str] | None = None, **more: Any) -> dict[str, Any]:
    made = {"urn": f"{URN}{types}::{name}", "type": types.rpartition("$")[2], "parent": parent, **more}
    return made | ({"inputs": {"metadata": dict(zip(("namespace", "name"), key, strict=True))}} if key else {})


def account(workload: str, **more: Any) -> dict[str, Any]:
    """The account of both workloads, as a workload made it."""
    parent = f"{URN}{GROUP}::team-{workload}"
    return entry(f"{GROUP}${ACCOUNT}", f"team-{workload}-account", parent, ("team", "robot"), **more)


@pytest.fixture
def deployment() -> dict[str, Any]:
    """Two workloads of one account, one of which made the Service; and what has no former name."""
    one = f"{URN}{GROUP}::team-one"
    resources = [
        {"urn": ROOT, "type": "pulumi:pulumi:Stack"},
        entry("kubernetes:core/v1:Namespace", "namespace-team", key=("", "team")),
        entry(GROUP, "team-one"),
        entry(GROUP, "team-two"),
        account("one"),
        account("two"),
        entry(f"{GROUP}$kubernetes:core/v1:Service", "team-one-service", one, ("team", "web")),
        entry(f"{GROUP}$kubernetes:networking.istio.io/v1:WorkloadGroup", "team-one-group", one, ("team", "one")),
        entry(
            "istio-vms:mesh:MeshPolicies$kubernetes:security.istio.io/v1:PeerAuthentication",
            "policies-mtls-team",
            key=("team", "default"),
        ),
        entry(
            "istio-vms:mesh:EastWestGateway$kubernetes:networking.istio.io/v1:VirtualService",
            "istio-eastwestgateway-istiod-1-virtualservice",
            key=("istio-system", "istio-eastwestgateway-istiod-1"),
        ),
        entry(
            "command:local:Command",
            "vm-1-join",
            dependencies=[account("one")["urn"], account("two")["urn"]],
            propertyDependencies={"stdin": [account("two")["urn"]]},
        ),
    ]
    return {"resources": resources}


def renamed(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    edited = copy.deepcopy(deployment)
    naming.rename(edited, naming.former(edited))
    assert naming.former(edited) == {}
    return {r["urn"].removeprefix(URN): r for r in edited["resources"]}


def test_an_object_that_two_resources_hold_is_held_by_one(deployment: dict[str, Any]) -> None:
    now = renamed(deployment)
    robot = f"{ACCOUNT}::serviceaccount/team/robot"
    assert [urn for urn in now if ACCOUNT in urn] == [robot]
    assert now[robot]["parent"] == ROOT
    assert now["command:local:Command::vm-1-join"]["dependencies"] == [URN + robot]
    assert now["command:local:Command::vm-1-join"]["propertyDependencies"] == {"stdin": [URN + robot]}


def test_what_is_shared_belongs_to_nobody_and_the_rest_to_whom_it_did(deployment: dict[str, Any]) -> None:
    now = renamed(deployment)
    assert now["kubernetes:core/v1:Service::service/team/web"]["parent"] == ROOT
    group = now[f"{GROUP}$kubernetes:networking.istio.io/v1:WorkloadGroup::workloadgroup/team/one"]
    assert group["parent"] == f"{URN}{GROUP}::team-one"


def test_names_that_follow_their_objects_already_stay(deployment: dict[str, Any]) -> None:
    stay = [r["urn"].removeprefix(URN) for r in deployment["resources"] if "inputs" not in r]
    stay += [urn for urn in renamed(deployment) if "Namespace" in urn or "PeerAuth" in urn or "EastWest" in urn]
    assert len(stay) == 7
    assert set(stay) <= set(renamed(deployment))


def test_what_is_about_to_be_deleted_is_left_alone(deployment: dict[str, Any]) -> None:
    deployment["resources"].append(account("one", delete=True))
    now = renamed(deployment)
    assert account("one")["urn"].removeprefix(URN) in now
    assert f"{ACCOUNT}::serviceaccount/team/robot" in now


def test_up_renames_and_down_need_not(stack: Stack, world: World, deployment: dict[str, Any]) -> None:
    world.put("deployment.json", deployment)
    repair(stack, to_destroy=True)
    assert not world.calls("stack", "import")
    repair(stack)
    imported = json.loads((world.folder / "imported.json").read_text())["deployment"]["resources"]
    assert [r["urn"].removeprefix(URN) for r in imported] == list(renamed(deployment))
