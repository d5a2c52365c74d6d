"""What `up` mends when Pulumi has nothing to change."""

from collections.abc import Callable

import pytest

from ops import heal as healing
from ops import members
from ops.heal import heal
from ops.live import Live, look
from ops.workspace import Stack
from tests.unit.ops.conftest import NAMES, Api, World, deployment, outputs

JOINED = {"workload_entry": "x", "namespace": "vmns", "address": "a", "healthy": True}
FIRST, SECOND = NAMES.values()


@pytest.fixture
def cluster(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(healing, "CLUSTER_SECONDS", 0.2)
    api.node("lab-server-1")
    api.node("lab-agent-1")
    return api


def run(stack: Stack, api: Api, suspects: tuple[str, ...] = ()) -> Live:
    return heal(stack, deployment(api), look(outputs(api)), suspects)


def joined(world: World) -> list[str]:
    return sorted(document["ssh"]["host"] for document in world.modules("workloads", "join"))


def test_a_member_whose_entry_is_gone_joins_again_and_traffic_is_proven(
    stack: Stack, world: World, cluster: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.entry(FIRST)
    world.put("workloads.join.json", JOINED)
    world.put("samples.prove.json", [{"vm": "lab-vm-2"}])
    live = run(stack, cluster)
    assert world.modules("workloads", "join") == [
        {
            **members.recorded(deployment(cluster))["lab-vm-2"],
            "timeout_seconds": members.JOIN_SECONDS,
        }
    ]
    assert world.modules("samples", "prove") == [{"kubeconfig": "K", "timeout_seconds": healing.TRAFFIC_SECONDS}]
    assert live.proof == [{"vm": "lab-vm-2"}]
    said = capsys.readouterr().out
    assert "heal: lab-vm-2 joins the mesh again\n  lab-vm-2 [   0.1 s] join is at work\n" in said
    assert "PRIVATE" not in said
    # The cluster is asked again, and still has no entry: it is not ours to say that all is well.
    assert not live.healthy
    assert "heal: waiting, as lab-vm-2 is not healthy: no WorkloadEntry\n" in said
    cluster.entry(SECOND)
    assert run(stack, cluster).healthy


def test_an_unhealthy_entry_counts_as_one_that_is_gone(stack: Stack, world: World, cluster: Api) -> None:
    cluster.entry(FIRST, healthy="False")
    cluster.entry(SECOND)
    run(stack, cluster)
    assert joined(world) == ["10.89.0.14"]


@pytest.mark.parametrize(
    ("started", "hosts"), [("lab-vm-2", ["10.89.1.10"]), ("lab-agent-1", ["10.89.0.14", "10.89.1.10"])]
)
def test_a_machine_that_was_started_is_looked_after_though_all_looks_well(
    stack: Stack, world: World, cluster: Api, started: str, hosts: list[str]
) -> None:
    cluster.entry(FIRST)
    cluster.entry(SECOND)
    live = run(stack, cluster, (started,))
    assert joined(world) == hosts
    assert len(world.modules("samples", "prove")) == 1
    assert live.healthy


def test_what_does_not_succeed_is_told(stack: Stack, world: World, cluster: Api) -> None:
    cluster.entry(FIRST)
    world.put("workloads.join.error", "error: the machine does not answer; start it")
    live = run(stack, cluster)
    assert list(live.problems) == ["lab-vm-2 could not join again: the machine does not answer; start it"]
    assert live.proof == [], "what was seen before does not count any more"
    assert world.modules("samples", "prove") == [], "nor is there traffic to prove without the member"
    cluster.entry(SECOND)
    assert not run(stack, cluster, ("lab-vm-2",)).healthy


def test_traffic_that_does_not_flow_is_told(stack: Stack, world: World, cluster: Api) -> None:
    cluster.entry(FIRST)
    world.put("workloads.join.json", JOINED)
    world.put("samples.prove.error", "error: 1 call(s) failed:\n  pod → lab-vm-2: 503")
    live = run(stack, cluster)
    assert list(live.problems) == ["traffic could not be proven: 1 call(s) failed: pod → lab-vm-2: 503"]
    assert live.proof == []


def test_members_wait_for_the_nodes(
    stack: Stack, world: World, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(healing, "CLUSTER_SECONDS", 0.2)
    api.node("lab-server-1")
    api.node("lab-agent-1", ready="Unknown")
    live = run(stack, api)
    assert "waiting for the cluster's nodes" in capsys.readouterr().out
    assert live.nodes == {"lab-server-1": None, "lab-agent-1": "no reason given"}
    assert joined(world) == []


def test_a_cluster_that_does_not_answer_is_waited_for(
    stack: Stack, world: World, cluster: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.entry(FIRST)
    cluster.entry(SECOND)
    before = Live(unreachable="connection refused")
    assert heal(stack, deployment(cluster), before).healthy
    assert joined(world) == []


def test_without_samples_nothing_is_proven(stack: Stack, world: World, cluster: Api) -> None:
    state = deployment(cluster)
    state["resources"] = [r for r in state["resources"] if not r["urn"].endswith("proof-calls")]
    live = heal(stack, state, look(outputs(cluster)))
    assert joined(world) == ["10.89.0.14", "10.89.1.10"]
    assert live.proof is None
    assert world.modules("samples", "prove") == []


# --------------------------------------------------------------------------------------------- until the cluster agrees

NODES = dict.fromkeys(("lab-server-1", "lab-agent-1"))
WELL = Live(NODES, dict.fromkeys(NAMES))
FLIPPED = Live(NODES, {"lab-vm-1": None, "lab-vm-2": "no connection to istiod"})
SICK = Live(NODES, {"lab-vm-1": None, "lab-vm-2": "connection refused"})
AWAY = Live(unreachable="the API does not answer")


@pytest.fixture
def seen(stack: Stack, cluster: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Live]:
    """Heals after a power failure, the cluster saying one thing after the other, and the last one from then on."""

    def healed(*looks: Live) -> Live:
        answers = iter(looks)
        monkeypatch.setattr(healing, "look", lambda _: next(answers, looks[-1]))
        return heal(stack, deployment(cluster), WELL, ("lab-server-1",))

    return healed


def test_a_member_that_is_not_healthy_for_a_moment_after_all_is_waited_for(
    seen: Callable[..., Live], capsys: pytest.CaptureFixture[str]
) -> None:
    assert seen(FLIPPED, FLIPPED, AWAY, SICK, WELL).healthy
    said = [line for line in capsys.readouterr().out.splitlines() if "waiting" in line]
    assert said == [
        "heal: waiting, as lab-vm-2 is not healthy: no connection to istiod",
        "heal: waiting, as the API does not answer",
        "heal: waiting, as lab-vm-2 is not healthy: connection refused",
    ]


@pytest.mark.parametrize("before", [(WELL,), (WELL, WELL), (WELL, FLIPPED, WELL)])
def test_looks_that_say_what_was_true_before_do_not_count(seen: Callable[..., Live], before: tuple[Live, ...]) -> None:
    live = seen(*before, SICK)
    assert not live.healthy
    assert live.members["lab-vm-2"] == "connection refused"


def test_a_member_that_stays_unhealthy_is_told_with_its_reason(seen: Callable[..., Live]) -> None:
    live = seen(FLIPPED, SICK)
    assert list(live.amiss) == ["lab-vm-2 is not healthy: connection refused"]
    assert live.problems == ()


def test_a_row_that_time_runs_out_on_counts(seen: Callable[..., Live], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "SETTLE_SECONDS", 0)
    assert seen(WELL).healthy
