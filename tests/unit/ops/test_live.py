"""One look at the cluster: nodes, and the health of members."""

from typing import Any

import pytest

from ops.live import RENUMBERED, Live, Renumbered, look
from tests.unit.ops.conftest import ISTIO, ISTIOD_PODS, NAMES, Api, outputs

FIRST, SECOND = NAMES.values()


def test_the_cluster_is_asked_for_every_node_and_member(api: Api) -> None:
    api.node("lab-server-1")
    api.node("lab-agent-1", ready="Unknown")
    api.node("someone-elses", ready="False")
    api.entry(FIRST)
    live = look(outputs(api))
    assert live == Live(
        {"lab-server-1": None, "lab-agent-1": "is not Ready: no reason given"},
        members={"lab-vm-1": None, "lab-vm-2": "no WorkloadEntry"},
    )
    api.objects["/api/v1/nodes"]["items"][1]["status"]["conditions"][0]["status"] = "True"
    api.entry(SECOND)
    assert look(outputs(api)) == Live(
        {"lab-server-1": None, "lab-agent-1": None}, members={"lab-vm-1": None, "lab-vm-2": None}
    )


def test_a_node_that_is_not_in_the_cluster_is_told(api: Api) -> None:
    api.node("lab-server-1")
    api.entry(FIRST)
    api.entry(SECOND)
    live = look(outputs(api))
    assert live.nodes == {"lab-server-1": None, "lab-agent-1": "is not in the cluster"}


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


def pod_at(node: str, address: str, phase: str = "Running", **spec: Any) -> dict[str, Any]:
    return {"spec": {"nodeName": node, **spec}, "status": {"phase": phase, "podIP": address}}


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        (pod_at("lab-agent-1", "10.42.2.7"), None),
        (pod_at("lab-agent-1", "10.42.1.7"), RENUMBERED),
        (pod_at("lab-agent-1", "10.89.0.12", hostNetwork=True), None),
        (pod_at("lab-agent-1", "10.42.1.7", phase="Succeeded"), None),
        (pod_at("somebody-elses", "10.42.1.7"), None),
        (pod_at("lab-agent-1", ""), None),
        ({"spec": {}, "status": {"phase": "Pending"}}, None),
    ],
)
def test_a_node_whose_pods_have_addresses_of_another_range_is_not_well(
    api: Api, pod: dict[str, Any], why: str | None
) -> None:
    api.node("lab-server-1", "True", "10.42.0.0/24")
    api.node("lab-agent-1", "True", "10.42.2.0/24", "fd00::/64")
    api.objects["/api/v1/pods"]["items"].append(pod)
    live = look(outputs(api))
    assert live.nodes == {"lab-server-1": None, "lab-agent-1": why}
    former = {"lab-agent-1": Renumbered("10.42.2.0/24", ["10.42.1.7"])}
    assert live.renumbered == (former if why else {})


STARTED_SINCE = {"state": {"running": {"startedAt": "2026-11-21T03:00:01Z"}}}
STARTED_BEFORE = {"state": {"running": {"startedAt": "2026-11-21T02:59:59Z"}}}


@pytest.mark.parametrize(
    ("containers", "why"),
    [
        ([STARTED_BEFORE], None),
        ([STARTED_BEFORE, {"state": {"waiting": {}}}], None),
        ([STARTED_SINCE], "no connection to istiod: its own, pod istiod-1, was started anew since"),
    ],
)
def test_a_connection_does_not_outlive_the_run_of_its_istiod(
    api: Api, containers: list[dict[str, Any]], why: str | None
) -> None:
    api.objects[ISTIOD_PODS]["items"][0]["status"]["containerStatuses"] = containers
    api.entry(FIRST)
    assert look(outputs(api)).members["lab-vm-1"] == why


def test_entries_of_no_vm_are_cut_off_once_their_istiod_has_ended(api: Api) -> None:
    for name in (FIRST, SECOND, "moved", "not-registered"):
        api.entry(name, istiod="istiod-0")
    api.entry("someone-elses")
    api.entry("seen-off", istiod="istiod-0", connected=False)
    for entry in api.objects[f"{ISTIO}/workloadentries"]["items"]:
        if entry["metadata"]["name"] != "not-registered":
            entry["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "external-app"
    assert [one["metadata"]["name"] for one in look(outputs(api)).cut_off] == ["moved"]


def test_without_any_istiod_no_connection_counts(api: Api) -> None:
    del api.objects[ISTIOD_PODS]
    api.entry(FIRST)
    assert str(look(outputs(api)).members["lab-vm-1"]).startswith("no connection to istiod")


def test_a_cluster_that_is_not_there_is_told_without_its_secrets(api: Api) -> None:
    api.url = "http://127.0.0.1:9"
    live = look(outputs(api))
    assert live.unreachable
    assert api.token not in live.unreachable
    assert live.nodes == {}
