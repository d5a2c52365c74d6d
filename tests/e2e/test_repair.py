"""What killed runs leave and what someone deletes or changes by hand, on a small lab, as its user sees it. Needs root and Linux.

The tests run in this order on one stack: a server, one VM, and policies.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import time
from collections.abc import Generator
from typing import Any

import pytest

from tests.e2e.conftest import Environment, kill_pulumi_at
from tests.trial import trial

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]

CIDRS = {"cluster": "10.106.0.0/24", "vm": "10.106.1.0/24"}
ISTIO = "/apis/networking.istio.io/v1/namespaces/vmns"
POLICY = "/apis/security.istio.io/v1/namespaces/vmns/authorizationpolicies/external-app"
GROUP, SERVICE = f"{ISTIO}/workloadgroups/external-app", "/api/v1/namespaces/vmns/services/external-app"
DEPLOYMENTS = "/apis/apps/v1/namespaces/istio-system/deployments"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Generator[Environment]:
    """The stack, up."""
    with trial(tmp_path_factory.mktemp("repair"), "rp", CIDRS) as made:
        settings = made.settings
        settings["istio-vms:cluster"]["agents"] = {"count": 0}
        app = settings["istio-vms:workloads"][0]
        app["vms"] = app["vms"][:1]
        settings["istio-vms:workloads"] = [app]
        settings["istio-vms:policies"]["authorization"] = [
            {"name": "external-app", "namespace": "vmns", "app": "external-app", "allow": ["sample/curl"]}
        ]
        settings["istio-vms:traffic"] = []
        made.write_settings()
        made.make("up").check()
        yield Environment(made)


def test_nothing_is_put_right_where_nothing_was_changed(env: Environment) -> None:
    """Everything is compared that the lab has, objects of Istio's controllers and of Kubernetes' among them."""
    again = env.trial.make("up").check()
    assert "nothing changed" in again.text
    assert "repair:" not in again.text


def test_what_was_deleted_or_changed_by_hand_is_put_right(env: Environment) -> None:
    cluster = env.cluster
    policy = env.get(POLICY)
    wanted = copy.deepcopy(policy["spec"])
    cluster.replace(POLICY, {**policy, "spec": {**wanted, "rules": [{}]}})
    for path in (GROUP, SERVICE, f"{DEPLOYMENTS}/istiod-1-30"):
        assert cluster.delete(path)
    said = env.trial.make("up").check().text
    for line in (
        "repair: Helm release istiod-1-30 lacks Deployment istio-system/istiod-1-30",
        "repair: Service vmns/external-app is gone",
        "repair: WorkloadGroup vmns/external-app is gone",
        "repair: AuthorizationPolicy vmns/external-app was changed (spec.rules[0].from)",
    ):
        assert line in said, said
    assert env.get(POLICY)["spec"] == wanted
    assert env.get(f"{DEPLOYMENTS}/istiod-1-30")["status"]["readyReplicas"] == 1
    assert env.entry("vm-1")["status"]["conditions"][0]["status"] == "True"
    quiet = env.trial.make("up").check().text
    assert "nothing changed" in quiet
    assert "repair:" not in quiet


def test_the_members_of_a_deleted_group_are_healthy_again(env: Environment) -> None:
    """istiod runs on, and makes the entry anew for a sidecar that has told its health before."""
    assert env.cluster.delete(GROUP)
    said = env.trial.make("up").check().text
    assert "repair: WorkloadGroup vmns/external-app is gone" in said
    assert env.entry("vm-1")["status"]["conditions"][0]["status"] == "True"


def test_what_a_killed_run_began_goes_when_the_settings_are_taken_back(env: Environment) -> None:
    """A VM and a node that are being made; nobody wants them by the next `up`."""
    made = env.trial
    before = copy.deepcopy(made.settings)
    made.settings["istio-vms:cluster"]["agents"]["count"] = 1
    app: dict[str, Any] = made.settings["istio-vms:workloads"][0]
    app["vms"].append({"name": "vm-2", "network": "vm"})
    made.write_settings()
    kill_pulumi_at(made.start("up"), made.state, r"agent-1-k3s creating .*starting k3s")
    assert {"agent-1", "vm-2"} <= set(made.machines())
    _wait_for_node(env, f"{made.stack}-agent-1")
    made.settings = before
    made.write_settings()
    said = made.make("up").check().text
    assert re.search(r"repair: an earlier run was cut off while it worked on .*agent-1-k3s", said)
    assert set(made.machines()) == {"server-1", "vm-1"}
    assert env.names("/api/v1/nodes") == {f"{made.stack}-server-1"}
    assert "nothing changed" in made.make("up").check().text


def _wait_for_node(env: Environment, name: str) -> None:
    """The machine goes on with its script when the run is dead."""
    end = time.monotonic() + 60
    while name not in env.names("/api/v1/nodes"):
        assert time.monotonic() < end, f"{name} never became a node"
        time.sleep(1)
