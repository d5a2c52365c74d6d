"""What `up` mends when Pulumi has nothing to change."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ops import heal as healing
from ops import members
from ops.finding import Finding
from ops.heal import Healed, heal, settle
from ops.live import Live
from ops.status.model import Status
from ops.workspace import Stack
from tests.unit.ops.conftest import ISTIO, NAMES, Api, World, deployment
from tests.unit.ops.test_status import applied

JOINED = {"workload_entry": "x", "namespace": "vmns", "address": "a", "healthy": True}
FIRST, SECOND = NAMES.values()


@pytest.fixture
def cluster(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(healing, "CLUSTER_SECONDS", 0.2)
    api.node("lab-server-1")
    api.node("lab-agent-1")
    return api


def run(stack: Stack, api: Api, suspects: tuple[str, ...] = ()) -> Healed:
    return heal(stack, deployment(api), suspects)


def joined(world: World) -> list[str]:
    return sorted(document["ssh"]["host"] for document in world.requests("workloads.join"))


def test_a_member_whose_entry_is_gone_joins_again(
    stack: Stack, world: World, cluster: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.entry(FIRST)
    world.put("workloads.join.json", JOINED)
    healed = run(stack, cluster)
    assert world.requests("workloads.join") == [
        {
            **members.recorded(deployment(cluster))["lab-vm-2"],
            "timeout_seconds": members.JOIN_SECONDS,
        }
    ]
    assert healed.at and not healed.failed and not healed.in_vain
    said = capsys.readouterr().out
    assert "heal: lab-vm-2 joins the mesh again\n  lab-vm-2 [   0.1 s] workloads.join is at work\n" in said
    assert "PRIVATE" not in said


def test_where_all_is_well_nothing_is_touched(stack: Stack, world: World, cluster: Api) -> None:
    cluster.entry(FIRST)
    cluster.entry(SECOND)
    assert run(stack, cluster) == Healed()
    assert joined(world) == []


def test_an_unhealthy_entry_counts_as_one_that_is_gone(stack: Stack, world: World, cluster: Api) -> None:
    cluster.entry(FIRST, healthy="False")
    cluster.entry(SECOND)
    run(stack, cluster)
    assert joined(world) == ["10.89.0.14"]


@pytest.mark.parametrize(
    ("started", "hosts"),
    [("lab-vm-2", ["10.89.1.10"]), ("lab-agent-1", ["10.89.0.14", "10.89.1.10"]), ("lab-vm-that-was-taken-out", [])],
)
def test_a_machine_that_was_started_is_looked_after_though_all_looks_well(
    stack: Stack, world: World, cluster: Api, started: str, hosts: list[str]
) -> None:
    cluster.entry(FIRST)
    cluster.entry(SECOND)
    healed = run(stack, cluster, (started,))
    assert joined(world) == hosts
    assert bool(healed.at) == bool(hosts)


def test_what_does_not_succeed_is_told(stack: Stack, world: World, cluster: Api) -> None:
    cluster.entry(FIRST)
    world.put("workloads.join.error", "error: the machine does not answer; start it")
    healed = run(stack, cluster)
    (failed,) = healed.failed
    assert (failed.id, failed.subject) == ("member-cannot-join", "VM lab-vm-2")
    assert failed.problem == "could not join again: the machine does not answer; start it"
    assert "make rejoin STACK=lab VM=vm-2" in failed.what_to_do
    assert healed.in_vain
    cluster.entry(SECOND)
    assert run(stack, cluster, ("lab-vm-2",)).failed


def test_members_wait_for_the_nodes(
    stack: Stack, world: World, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(healing, "CLUSTER_SECONDS", 0.2)
    api.node("lab-server-1")
    api.node("lab-agent-1", ready="Unknown")
    assert run(stack, api) == Healed(in_vain=True)
    assert "waiting for the cluster's nodes" in capsys.readouterr().out
    assert joined(world) == []


def test_entries_of_our_groups_where_no_vm_is_any_more_go(
    stack: Stack, cluster: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    group = applied(cluster, "networking.istio.io/v1:WorkloadGroup", "workloadgroups", "vmns", "external-app")
    for name, registered in (
        (FIRST, "external-app"),
        (SECOND, "external-app"),
        ("moved", "external-app"),
        ("x", "theirs"),
    ):
        cluster.entry(name, istiod="istiod-1" if name in (FIRST, SECOND) else "istiod-0")
        entry = cluster.objects[f"{ISTIO}/namespaces/vmns/workloadentries/{name}"]
        entry["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = registered
    heal(stack, deployment(cluster, group))
    assert cluster.deleted == [f"{ISTIO}/namespaces/vmns/workloadentries/moved"]
    assert "heal: WorkloadEntry vmns/moved is of no VM any more, and goes" in capsys.readouterr().out


def test_a_cluster_that_does_not_answer_is_waited_for(
    stack: Stack, world: World, cluster: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.entry(FIRST)
    cluster.entry(SECOND)
    looks = iter([Live(unreachable="connection refused"), Live(unreachable="connection refused")])
    look = healing.look
    monkeypatch.setattr(healing, "look", lambda outputs: next(looks, None) or look(outputs))
    healed = run(stack, cluster)
    assert healed.at and not healed.in_vain
    assert joined(world) == []


def test_a_cluster_that_stays_away_is_told(stack: Stack, cluster: Api) -> None:
    cluster.url = "http://127.0.0.1:9"
    assert run(stack, cluster) == Healed(in_vain=True, unreachable=True)


# --------------------------------------------------------------------------------------------- until the cluster agrees

WELL = Status("lab", [], [], [], [], [], [])
FLIPPED = replace(WELL, findings=[Finding("member-not-connected", "VM lab-vm-2", "is no member", "rejoin")])
SICK = replace(WELL, findings=[Finding("member-unhealthy", "VM lab-vm-2", "is not healthy: connection refused", "")])
AWAY = replace(WELL, findings=[Finding("not-known", "the cluster", "cannot be asked: no answer", "")])
LASTING = replace(WELL, findings=[Finding("member-root", "VM lab-vm-2", "does not trust the root", "")])
HEALED = Healed(datetime(2026, 11, 21, tzinfo=UTC))


def looking(*looks: Status) -> Callable[[], Status]:
    """One after the other, and the last one from then on."""
    answers = iter(looks)
    return lambda: next(answers, looks[-1])


def test_a_member_that_is_not_healthy_for_a_moment_after_all_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert settle(looking(FLIPPED, FLIPPED, AWAY, SICK, WELL), HEALED).healthy
    said = [line for line in capsys.readouterr().out.splitlines() if "waiting" in line]
    assert said == [
        "heal: waiting, as VM lab-vm-2 is no member",
        "heal: waiting, as the cluster cannot be asked: no answer",
        "heal: waiting, as VM lab-vm-2 is not healthy: connection refused",
    ]


@pytest.mark.parametrize("before", [(WELL,), (WELL, WELL), (WELL, FLIPPED, WELL)])
def test_looks_that_say_what_was_true_before_do_not_count(before: tuple[Status, ...]) -> None:
    assert settle(looking(*before, SICK), HEALED) == SICK


def test_a_single_look_counts_where_nothing_was_healed() -> None:
    assert settle(looking(WELL, SICK), Healed()) == WELL
    assert settle(looking(SICK, WELL), Healed()) == WELL


def test_a_member_that_stays_unhealthy_is_told_with_its_reason() -> None:
    assert settle(looking(FLIPPED, SICK), HEALED) == SICK


@pytest.mark.parametrize("healed", [Healed(), HEALED])
def test_what_does_not_pass_is_not_waited_for(healed: Healed, capsys: pytest.CaptureFixture[str]) -> None:
    assert settle(looking(LASTING, WELL), healed) == LASTING
    assert "waiting" not in capsys.readouterr().out


def test_what_was_waited_for_in_vain_is_not_waited_for_again() -> None:
    assert settle(looking(SICK, WELL), Healed(in_vain=True)) == SICK


def test_a_row_that_time_runs_out_on_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "SETTLE_SECONDS", 0)
    assert settle(looking(WELL), HEALED).healthy
