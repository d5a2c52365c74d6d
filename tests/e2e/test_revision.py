"""Another revision of Istio for real, as its user sees it: set `mesh.revision`, and `make up`. Needs root and Linux.

The tests run in this order on one small stack: a server, a VM behind the gateway, and the samples.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actions.kube import KubeError
from actions.mesh.injection import uninjected
from tests.e2e.conftest import Environment, kill_pulumi_at
from tests.trial import Trial, trial

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]

CIDRS = {"cluster": "10.102.0.0/24", "vm": "10.102.1.0/24"}
VM = "vm-2"
MESH = ("sample", "sample-guarded", "vmns")
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
TAG = f"{ADMISSION}/mutatingwebhookconfigurations/istio-revision-tag-default"
VALIDATOR = f"{ADMISSION}/validatingwebhookconfigurations/istiod-default-validator"
UNCHANGED = re.compile(r"Resources:\n +\d+ unchanged\n")
VM_SECONDS = 15
"""How long calls may fail while the VM's sidecar is started anew, with the files of another istiod."""
POD_SECONDS = 3
"""How long, each time that a pod ends."""
_CALLS = """
rm -f /tmp/calls /tmp/enough
nohup sh -c 'while [ ! -e /tmp/enough ]; do
  echo "$(date +%s.%N) $(curl -s -o /dev/null -m 2 -w %{http_code} http://helloworld.sample.svc:5000/hello)"; sleep 0.1
done' >/tmp/calls 2>/dev/null </dev/null &
"""


class Calls:
    """Calls between pods and the VM, one after the other, both ways: when each was made, and whether it was well."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._call_from_pods)
        self.to_vm: list[tuple[float, bool]] = []
        self.from_vm: list[tuple[float, bool]] = []

    @classmethod
    @contextmanager
    def going_on(cls, env: Environment) -> Iterator[Calls]:
        made = cls(env)
        env.on(VM, _CALLS)
        made._thread.start()
        try:
            yield made
        finally:
            made._enough.set()
            made._thread.join()
        lines = [line.split() for line in env.on(VM, "touch /tmp/enough; sleep 3; cat /tmp/calls").splitlines()]
        made.from_vm = [(float(at), code == "200") for at, code in lines]

    def _call_from_pods(self) -> None:
        url = "http://external-app.vmns.svc:8000/"
        command = shlex.split(f"curl -sS -o /dev/null -m 2 -w %{{http_code}} {url}")
        while not self._enough.is_set():
            at = time.time()
            try:
                pod = next(iter(self._callers()))
                ran = self._env.cluster.run("sample", pod, "curl", command, timeout=10)
                stays = pod in self._callers()
            except (KubeError, StopIteration):
                continue  # the caller itself went
            if stays:
                self.to_vm.append((at, ran.stdout == "200"))

    def _callers(self) -> list[str]:
        """Clients that run and are not on their way out."""
        pods = self._env.cluster.items("/api/v1/namespaces/sample/pods", "app=curl")
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"] and _ready(pod)]


def _ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def outages(calls: list[tuple[float, bool]]) -> list[float]:
    """How long each row of failures lasted, up to the next call that was well."""
    found: list[float] = []
    since: float | None = None
    for at, well in calls:
        if not well:
            since = at if since is None else since
        elif since is not None:
            found.append(at - since)
            since = None
    return found if since is None else [*found, float("inf")]


def has_moved_to(env: Environment, revision: str) -> None:
    """Everything is of one revision: istiods, what makes it the default, namespaces, gateways, pods, the VM."""
    istiod = f"istiod-{revision}"
    assert env.names("/apis/apps/v1/namespaces/istio-system/deployments", "app=istiod") == {istiod}
    for path in (TAG, VALIDATOR):
        found = env.get(path)
        assert found["metadata"]["labels"]["istio.io/rev"] == revision, path
        for webhook in found["webhooks"]:
            assert webhook["clientConfig"]["service"]["name"] == istiod, path
            assert webhook["clientConfig"]["caBundle"], path
            assert webhook["failurePolicy"] == "Fail", path
    for namespace in MESH:
        assert env.get(f"/api/v1/namespaces/{namespace}")["metadata"]["labels"]["istio.io/rev"] == revision
    assert uninjected(env.cluster, MESH, revision) == []
    others = {pod.name for pod in uninjected(env.cluster, ["istio-system"], revision)}
    assert all(name.startswith(f"{istiod}-") for name in others), "a gateway is of another revision"
    services = "/apis/networking.istio.io/v1/namespaces/istio-system/virtualservices"
    assert env.names(services) == {f"istio-eastwestgateway-{istiod}"}
    assert env.entry(VM)["metadata"]["annotations"]["istio.io/workloadController"].startswith(f"{istiod}-")


def set_revision(made: Trial, revision: str, **values: Any) -> None:
    mesh = made.settings["istio-vms:mesh"]
    mesh["revision"] = revision
    mesh["values"]["istiod"] = {
        key: value for key, value in mesh["values"]["istiod"].items() if key != "image"
    } | values
    made.write_settings()


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Generator[Environment]:
    """The stack, up."""
    with trial(tmp_path_factory.mktemp("revision"), "rev", CIDRS) as made:
        shrink(made)
        made.make("up").check()
        yield Environment(made)


def shrink(made: Trial) -> None:
    """One server, one VM."""
    made.settings["istio-vms:cluster"] |= {"agents": {"count": 0}}
    group = made.settings["istio-vms:workloads"][0]
    made.settings["istio-vms:workloads"] = [group | {"vms": [vm for vm in group["vms"] if vm["name"] == VM]}]
    policies = made.settings["istio-vms:policies"]
    policies["authorization"] = [
        policy | {"allow": [one for one in policy["allow"] if one != "sample/helloworld-vm"]}
        for policy in policies["authorization"]
    ]
    made.settings["istio-vms:traffic"] = []
    made.write_settings()


def test_everything_moves_to_another_revision_while_calls_go_on(env: Environment) -> None:
    set_revision(env.trial, "next")
    with Calls.going_on(env) as calls:
        env.trial.make("up").check()
    has_moved_to(env, "next")
    for made in (calls.to_vm, calls.from_vm):
        assert sum(well for _, well in made) > 20, made
        # The VM's own sidecar is started anew. Pods are replaced one after the other, but the samples' have only a second to end.
        *short, longest = sorted([0.0, *outages(made)])
        assert longest < VM_SECONDS, outages(made)
        assert all(seconds < POD_SECONDS for seconds in short), outages(made)
    assert UNCHANGED.search(env.trial.make("up").check().text)


def test_a_change_that_is_cut_off_while_pods_move_can_be_taken_back(env: Environment) -> None:
    set_revision(env.trial, "third")
    kill_pulumi_at(env.trial.start("up"), env.trial.state, r"reinjection updating .*restarting")
    set_revision(env.trial, "next")
    env.trial.make("up").check()
    has_moved_to(env, "next")
    assert UNCHANGED.search(env.trial.make("up").check().text)


def test_an_istiod_that_does_not_get_healthy_moves_nothing(env: Environment) -> None:
    set_revision(env.trial, "broken", image="docker.io/istio/none:0")
    assert env.trial.make("up").code != 0
    assert env.get(VALIDATOR)["metadata"]["labels"]["istio.io/rev"] == "next"
    assert env.get(TAG)["metadata"]["labels"]["istio.io/rev"] == "next"
    assert uninjected(env.cluster, MESH, "next") == []
    pod = sorted(env.names("/api/v1/namespaces/sample/pods", "app=curl"))[0]
    env.cluster.delete(f"/api/v1/namespaces/sample/pods/{pod}")
    deadline = time.monotonic() + 60
    while pod in (names := env.names("/api/v1/namespaces/sample/pods", "app=curl")) or not names:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert uninjected(env.cluster, MESH, "next") == []
    set_revision(env.trial, "next")
    env.trial.make("up").check()
    has_moved_to(env, "next")
    assert UNCHANGED.search(env.trial.make("up").check().text)
