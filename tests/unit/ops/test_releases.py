"""Helm releases that lack objects, or that a killed run left in the middle of something."""

from __future__ import annotations

from typing import Any, cast

import pytest

from actions.kube import Cluster
from ops import releases
from ops.objects import RELEASE, Differences, compare
from ops.places import Place
from ops.workspace import Stack
from tests.unit.ops.conftest import World, urn
from tests.unit.ops.test_repair import HELM

URN = urn(RELEASE, "istiod")
STATE = {"resources": [{"urn": URN, "type": RELEASE, "custom": True, "id": "istio-system/istiod-1", "outputs": {}}]}
LACKING = {URN: [Place("apps/v1", "Deployment", "istio-system", "istiod-1")]}


class Records:
    """Helm's records of the release's revisions, and nothing else."""

    def __init__(self, **statuses: str) -> None:
        self.statuses = statuses

    def get(self, path: str) -> None:
        """There is nothing else."""

    def items(self, path: str, selector: str = "") -> list[Any]:
        assert path == "/api/v1/namespaces/istio-system/secrets"
        wanted = [one for one in self.statuses.values() if one in selector] if "status in" in selector else None
        assert wanted is not None or selector == "owner=helm,name=istiod-1"
        return [
            {
                "metadata": {
                    "namespace": "istio-system",
                    "labels": {"name": "istiod-1", "version": key[1:], "status": one},
                }
            }
            for key, one in self.statuses.items()
            if wanted is None or one in wanted
        ]


def put_right(stack: Stack, world: World, records: Records, differences: Differences) -> tuple[list[str], list[str]]:
    """The URNs of what is gone, and how helm was called."""
    world.program("helm", HELM)
    gone = releases.put_right(stack, STATE, differences, cast(Cluster, records), "kubeconfig")
    words = world.folder / "helm.words"
    return gone, words.read_text().splitlines() if words.exists() else []


def test_unfinished_releases_are_found() -> None:
    found = compare(STATE, cast(Cluster, Records(v1="superseded", v2="deployed", v3="pending-upgrade")))
    assert found.unfinished == {URN: "pending-upgrade"}
    assert found.lines == ["Helm release istiod was left pending-upgrade"]
    assert not compare(STATE, cast(Cluster, Records(v1="superseded", v2="deployed")))


@pytest.mark.parametrize("status", ["pending-upgrade", "pending-rollback"])
def test_an_upgrade_that_was_cut_off_is_rolled_back(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    records = Records(v8="superseded", v9="deployed", v10=status)
    gone, words = put_right(stack, world, records, Differences(unfinished={URN: status}))
    assert (gone, words) == ([], ["rollback istiod-1 9 --namespace istio-system --wait --timeout 90s"])
    assert (
        f"Helm release istiod-1 was left {status} by an earlier run; it goes back to its revision 9"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("statuses", [{"v1": "pending-install"}, {"v1": "superseded", "v2": "uninstalling"}])
def test_an_installation_or_removal_that_was_cut_off_is_removed(
    stack: Stack, world: World, statuses: dict[str, str]
) -> None:
    status = list(statuses.values())[-1]
    gone, words = put_right(stack, world, Records(**statuses), Differences(unfinished={URN: status}))
    assert gone == [URN]
    assert [line.split()[:2] for line in words] == [["uninstall", "istiod-1"]]


def test_a_release_that_lacks_objects_makes_them_again(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, words = put_right(stack, world, Records(v1="superseded", v2="deployed"), Differences(releases=LACKING))
    assert gone == []
    assert words == ["rollback istiod-1 2 --namespace istio-system --wait --timeout 90s"]
    assert "lacks Deployment istio-system/istiod-1; it goes back to its revision 2" in capsys.readouterr().out


def test_a_release_without_records_is_gone(stack: Stack, world: World) -> None:
    assert put_right(stack, world, Records(), Differences(releases=LACKING)) == ([URN], [])


def test_helm_that_does_not_do_it_is_told(stack: Stack, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.put("helm.fails", "")
    assert put_right(stack, world, Records(v2="deployed"), Differences(releases=LACKING))[0] == []
    assert "going on, though helm could not roll istiod-1 back: Error: timed out" in capsys.readouterr().out


def test_nothing_to_do_takes_no_helm(stack: Stack, world: World) -> None:
    assert put_right(stack, world, Records(), Differences()) == ([], [])
