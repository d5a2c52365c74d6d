"""One look at the cluster: nodes, and the health of members."""

import pytest

from ops.live import Live, look
from tests.unit.ops.conftest import ISTIOD_PODS, NAMES, Api, outputs

FIRST, SECOND = NAMES.values()


def test_the_cluster_is_asked_for_every_node_and_member(api: Api) -> None:
    api.node("lab-server-1")
    api.node("lab-agent-1", ready="Unknown")
    api.node("someone-elses", ready="False")
    api.entry(FIRST)
    live = look(outputs(api))
    assert live == Live(
        {"lab-server-1": None, "lab-agent-1": "no reason given"}, {"lab-vm-1": None, "lab-vm-2": "no WorkloadEntry"}
    )
    assert live.amiss == [
        "lab-agent-1 is not Ready: no reason given",
        "lab-vm-2 is not healthy: no WorkloadEntry",
    ]
    api.objects["/api/v1/nodes"]["items"][1]["status"]["conditions"][0]["status"] = "True"
    api.entry(SECOND)
    assert look(outputs(api)).healthy


def test_a_node_that_is_not_in_the_cluster_is_not_ready(api: Api) -> None:
    api.node("lab-server-1")
    api.entry(FIRST)
    api.entry(SECOND)
    live = look(outputs(api))
    assert live.nodes == {"lab-server-1": None, "lab-agent-1": "it is not in the cluster"}
    assert not live.healthy


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"connected": False}, "no connection to istiod"),
        ({"istiod": "istiod-0"}, "no connection to istiod: its own, pod istiod-0, is gone"),
        ({"healthy": "Unknown"}, "no health report yet"),
        ({"healthy": "False", "message": "connection\n  refused"}, "connection refused"),
        ({"healthy": "False"}, "no reason given"),
    ],
)
def test_a_member_that_is_not_healthy_has_a_reason(api: Api, entry: dict[str, object], why: str) -> None:
    api.entry(FIRST, **entry)
    api.entry(SECOND)
    assert look(outputs(api)).members == {"lab-vm-1": why, "lab-vm-2": None}


def test_without_any_istiod_no_connection_counts(api: Api) -> None:
    del api.objects[ISTIOD_PODS]
    api.entry(FIRST)
    assert str(look(outputs(api)).members["lab-vm-1"]).startswith("no connection to istiod")


def test_a_cluster_that_is_not_there_is_told_without_its_secrets(api: Api) -> None:
    api.url = "http://127.0.0.1:9"
    live = look(outputs(api))
    assert live.unreachable
    assert live.amiss == [live.unreachable]
    assert api.token not in live.unreachable
    assert not live.healthy
    assert live.nodes == {}
