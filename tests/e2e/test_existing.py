"""A cluster and a host that the stack did not make: up on them, traffic both ways, other credentials, down, and both as they were."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import kill_pulumi_at
from tests.e2e.elsewhere import MOUNT, Elsewhere
from tests.trial import Trial, alone

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"
)

ROOT = Path(__file__).parents[2]
STACK = "e2e-existing"
CIDR = "10.91.0.0/24"
LAB = {
    key.removeprefix("istio-vms:"): value
    for key, value in yaml.safe_load((ROOT / "Pulumi.lab.yaml").read_text())["config"].items()
}


def tables(folder: Path, elsewhere: Elsewhere) -> dict[str, Any]:
    """The stack's settings: the lab's Istio on the cluster and the host that are there."""
    mesh = LAB["mesh"] | {"sidecarPackage": {"path": f"{MOUNT}/istio/istio-sidecar.deb"}}
    host = elsewhere.host
    vm = {"name": "vm-1", "existing": {"host": host["address"], "port": host["port"], "hostKey": host["host_key"]}}
    workload = {
        "name": "external-app", "namespace": "vmns", "serviceAccount": "external-app", "version": "vm", "application": "none",
        "ports": [{"name": "http", "port": 8000}], "probe": {"port": 8000}, "vms": [vm],
    }  # fmt: skip
    return {
        "machines": {"driver": "existing", "privateKeyFile": str(folder / "key")},
        "cluster": {"existing": {"kubeconfig": str(folder / "kubeconfig"), "context": "elsewhere"}},
        "mesh": mesh,
        "workloads": [workload],
        "samples": {"enabled": True},
        "policies": {"egressGuards": [{"namespace": "sample-guarded"}]},
        "telemetry": {"accessLogs": "mesh"},
        "traffic": [],
    }


def k3s_tables(folder: Path, elsewhere: Elsewhere) -> dict[str, Any]:
    """Other settings of the stack: a cluster of its own with the host as its only server, and nothing else but Istio."""

    def on_host(artifact: dict[str, str]) -> dict[str, str]:
        return {"path": artifact["path"].replace(LAB["machines"]["mounts"][0]["source"], MOUNT)}

    host, k3s = elsewhere.host, {key: value for key, value in LAB["cluster"].items() if key != "network"}
    k3s |= {key: on_host(k3s[key]) for key in ("binary", "tools")} | {
        "images": [on_host(image) for image in k3s["images"]]
    }
    k3s["servers"] = {"hosts": [{"host": host["address"], "port": host["port"], "hostKey": host["host_key"]}]}
    mesh = LAB["mesh"] | {"sidecarPackage": {"path": f"{MOUNT}/istio/istio-sidecar.deb"}, "exposedServices": []}
    return {
        "machines": {"driver": "existing", "privateKeyFile": str(folder / "key")},
        "cluster": k3s | {"agents": {"count": 0}},
        "mesh": mesh,
        "workloads": [],
        "samples": {},
        "policies": {},
        "telemetry": {},
        "traffic": [],
    }


@pytest.fixture(scope="module")
def elsewhere() -> Generator[Elsewhere]:
    made = Elsewhere(LAB, CIDR)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def stack(elsewhere: Elsewhere, tmp_path_factory: pytest.TempPathFactory) -> Generator[Trial]:
    """A stack on them, not up yet."""
    folder = tmp_path_factory.mktemp("existing")
    with alone(STACK):
        made = Trial(folder, STACK, {"cluster": CIDR, "vm": "10.91.1.0/24"})
        (folder / "key").write_text(elsewhere.private_key)
        (folder / "kubeconfig").write_text(elsewhere.operator("first"))
        made.settings = {f"istio-vms:{key}": value for key, value in tables(folder, elsewhere).items()}
        made.write_settings()
        yield made
        made.make("down")


@pytest.fixture(scope="module")
def before(elsewhere: Elsewhere, stack: Trial) -> tuple[dict[str, str], set[str]]:
    """Both as they were found; one administrator more will be there than at the end."""
    second = elsewhere.operator("second")
    (stack.checkout.parent / "second").write_text(second)
    return elsewhere.settled_state(), elsewhere.host_state()


def resources(stack: Trial) -> dict[str, dict[str, Any]]:
    """The state's resources by URN, secrets in the clear."""
    said = stack.pulumi("stack", "export", "--show-secrets")
    return {r["urn"]: r for r in json.loads(said)["deployment"]["resources"]}


def same(seen: Callable[[], Any], wanted: Any, differ: Callable[[Any, Any], list[str]]) -> None:
    """What is seen becomes what is wanted; controllers of Kubernetes take a moment."""
    end = time.monotonic() + 60
    while differences := differ(seen(), wanted):
        assert time.monotonic() < end, "\n".join(differences)
        time.sleep(1)


def as_found(elsewhere: Elsewhere, before: tuple[dict[str, str], set[str]], but: tuple[str, ...] = ()) -> None:
    """Both are as they were."""
    cluster, host = before
    wanted = {key: value for key, value in cluster.items() if not key.endswith(but)} if but else cluster
    same(
        elsewhere.cluster_state,
        wanted,
        lambda a, b: [f"{k}: {b.get(k)} → {a.get(k)}" for k in sorted({*a, *b}) if a.get(k) != b.get(k)],
    )
    host_as_found(elsewhere, host)


def host_as_found(elsewhere: Elsewhere, host: set[str]) -> None:
    """The host is as it was."""
    same(
        elsewhere.host_state,
        host,
        lambda a, b: sorted([f"+ {line}" for line in a - b] + [f"- {line}" for line in b - a]),
    )


def test_a_run_that_was_killed_leaves_nothing_after_down(
    stack: Trial, elsewhere: Elsewhere, before: tuple[dict[str, str], set[str]]
) -> None:
    kill_pulumi_at(stack.start("up"), stack.state, r"Release istiod-\S+ creating .*helm install")
    stack.make("down").check()
    as_found(elsewhere, before)


def test_traffic_flows_both_ways_by_name(stack: Trial, elsewhere: Elsewhere) -> None:
    stack.make("up").check()
    pods = elsewhere.cluster.items("/api/v1/namespaces/sample/pods", "app=curl")
    words = ("curl", "-sS", "-m", "5", "http://external-app.vmns.svc:8000/headers")
    seen = elsewhere.cluster.run("sample", pods[0]["metadata"]["name"], "curl", words, timeout=15)
    assert "URI=spiffe://cluster.local/ns/sample/sa/curl" in json.loads(seen.stdout)["x-forwarded-client-cert"]
    said = stack.ssh("vm-1", "curl -sS -m 5 http://helloworld.sample.svc:5000/hello").check().text
    assert "Hello version: v" in said


def test_status_tells_of_nodes_and_hosts_that_are_not_the_stacks(stack: Trial) -> None:
    said = json.loads(stack.make("status", ARGS="--json").check().text)
    assert [(node["name"], node["problem"]) for node in said["nodes"]] == [("elsewhere-node", None)]
    assert [(one["name"], one["state"]) for one in said["machines"]] == [(f"{STACK}-vm-1", "existing")]
    assert said["members"][0]["sync"]["CDS"] == "SYNCED"
    assert said["healthy"]
    written = Path(stack.make("kubeconfig").check().text.splitlines()[-1])
    assert yaml.safe_load(written.read_text())["current-context"] == "elsewhere"


def test_a_second_up_changes_nothing(stack: Trial) -> None:
    said = stack.make("up").check().text
    assert re.search(r"Resources:\n +\d+ unchanged\n", said), said


def test_other_credentials_replace_nothing(stack: Trial, elsewhere: Elsewhere) -> None:
    folder, earlier = stack.checkout.parent, resources(stack)
    (folder / "kubeconfig").write_text((folder / "second").read_text())
    stack.make("up").check()
    later = resources(stack)
    assert {urn: r.get("id") for urn, r in later.items()} == {urn: r.get("id") for urn, r in earlier.items()}
    changed = {r["type"] for urn, r in later.items() if r.get("inputs") != earlier[urn].get("inputs")}
    assert changed == {"pulumi:providers:kubernetes", "command:local:Command"}
    elsewhere.dismiss("first")


def test_down_leaves_both_as_they_were(
    stack: Trial, elsewhere: Elsewhere, before: tuple[dict[str, str], set[str]]
) -> None:
    stack.make("down").check()
    as_found(elsewhere, before, (" default/first", " /first"))


def test_k3s_on_a_host_is_taken_away_again(
    stack: Trial, elsewhere: Elsewhere, before: tuple[dict[str, str], set[str]]
) -> None:
    tables = k3s_tables(stack.checkout.parent, elsewhere)
    stack.settings = {f"istio-vms:{key}": value for key, value in tables.items()}
    stack.write_settings()
    stack.make("up").check()
    said = json.loads(stack.make("status", ARGS="--json").check().text)
    assert [(node["name"], node["problem"]) for node in said["nodes"]] == [(f"{STACK}-server-1", None)]
    stack.make("down").check()
    host_as_found(elsewhere, before[1])
