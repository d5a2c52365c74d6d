"""The stack that is up, read from its outputs."""

from __future__ import annotations

from typing import Any

import pytest

from actions.kube import ApiObject
from actions.protocol import Failure
from ops.status.model import Status
from tests.unit.test_settings import LAB, parse, put, without_samples
from verify import environment
from verify.environment import Environment

KEY = "the private key"


def outputs(tables: dict[str, Any] = LAB) -> dict[str, Any]:
    """What the lab exports."""
    settings = parse(tables)
    names = [f"lab-{vm.name}" for workload in settings.workloads for vm in workload.vms]
    return {
        "settings": settings.as_documents(),
        "kubeconfig": "the kubeconfig",
        "sshPrivateKey": KEY,
        "machines": {
            name: {"address": f"10.89.0.{i}", "port": 2200 + i, "user": "ubuntu", "hostKey": f"ssh-ed25519 {i}"}
            for i, name in enumerate(names, 1)
        },
        "vms": {name: {"workloadEntry": f"entry-{name}"} for name in names},
    }


class FakeCluster:
    """Has these objects by path."""

    def __init__(self, kubeconfig: str) -> None:
        assert kubeconfig == "the kubeconfig"
        self.objects: dict[str, Any] = {}

    def get(self, path: str) -> ApiObject | None:
        return self.objects.get(path)

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        return self.objects.get(f"{path}?{selector}", [])


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ApiCluster", FakeCluster)


def looking() -> Status:
    raise AssertionError("nobody looks")


def env_of(exported: dict[str, Any]) -> Environment:
    return Environment.of("lab", exported, looking)


@pytest.fixture
def env() -> Environment:
    return env_of(outputs())


def has(env: Environment, path: str, found: Any) -> None:
    cluster: Any = env.cluster
    cluster.objects[path] = found


def pod(name: str, phase: str = "Running", **metadata: str) -> ApiObject:
    return {"metadata": {"name": name, **metadata}, "status": {"phase": phase}}


def test_members_are_the_vms_of_the_settings_with_their_identities(env: Environment) -> None:
    assert [(m.name, m.address, m.entry, m.spiffe_id, m.url) for m in env.members] == [
        (
            f"lab-vm-{i}",
            f"10.89.0.{i}",
            f"entry-lab-vm-{i}",
            "spiffe://cluster.local/ns/" + ("vmns/sa/external-app" if i < 4 else "sample/sa/helloworld-vm"),
            "http://external-app.vmns.svc:8000" if i < 4 else "http://helloworld.sample.svc:5000",
        )
        for i in (1, 2, 3, 4)
    ]
    assert [env.single_network(member) for member in env.members] == [False, False, False, True]
    assert [len(group) for group in env.groups()] == [3, 1]
    assert env.largest_group() == env.members[:3]


def test_the_trust_domain_is_the_meshs() -> None:
    env = env_of(outputs(put(LAB, "mesh.trustDomain", "corp.example")))
    assert env.members[0].spiffe_id == "spiffe://corp.example/ns/vmns/sa/external-app"


def test_vms_are_reached_with_the_stacks_key_and_their_own(env: Environment) -> None:
    targets = [member.vm._target for member in env.members]
    assert [(t.host, t.port, t.user, t.private_key, t.host_key) for t in targets] == [
        (f"10.89.0.{i}", 2200 + i, "ubuntu", KEY, f"ssh-ed25519 {i}") for i in (1, 2, 3, 4)
    ]


def test_callers_of_a_vm_are_captured_or_not(env: Environment) -> None:
    member = env.members[0]
    assert (member.caller.user, member.caller.vm) == ("nobody", member.vm)
    assert (member.uncaptured.user, member.uncaptured.vm) == ("istio-proxy", member.vm)


def test_connections_to_vms_end_with_the_environment(env: Environment) -> None:
    closed: list[object] = []
    for member in env.members:
        member.vm._open.callback(closed.append, member.name)
    with env:
        assert closed == []
    assert closed == ["lab-vm-4", "lab-vm-3", "lab-vm-2", "lab-vm-1"]


def test_vms_with_an_application_of_their_own_are_not_asked() -> None:
    env = env_of(outputs(put(LAB, "workloads.1.application", "none")))
    assert [member.name for member in env.members] == ["lab-vm-1", "lab-vm-2", "lab-vm-3"]


def test_without_any_vm_there_is_no_largest_group(env: Environment) -> None:
    env.members.clear()
    with pytest.raises(Failure, match="no workload has VMs with the sample application"):
        env.largest_group()


def test_a_stack_of_an_older_version_is_told() -> None:
    older = outputs()
    del older["settings"]
    with pytest.raises(Failure, match="make up STACK=lab"):
        env_of(older)


def test_settings_that_are_not_understood_are_told() -> None:
    other = outputs()
    other["settings"]["mesh"]["colour"] = "red"
    with pytest.raises(Failure, match=r"(?s)make up STACK=lab.*mesh\.colour"):
        env_of(other)


def test_without_samples_there_is_nobody_to_call_from() -> None:
    env = env_of(outputs(without_samples(LAB)))
    with pytest.raises(Failure, match=r"samples\.enabled"):
        env.client()


def test_a_client_is_the_first_pod_that_runs_and_stays(env: Environment) -> None:
    pods = [
        pod("curl-0", "Pending"),
        pod("curl-1", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("curl-3"),
        pod("curl-2"),
    ]
    has(env, "/api/v1/namespaces/sample/pods?app=curl", pods)
    has(env, "/api/v1/namespaces/sample-outside/pods?app=plain", [pod("plain-1")])
    client, plain = env.client(), env.client("plain", "sample-outside")
    assert (client.namespace, client.pod, client.container) == ("sample", "curl-2", "curl")
    assert (plain.namespace, plain.pod, plain.container) == ("sample-outside", "plain-1", "plain")
    assert [found["metadata"]["name"] for found in env.pods("sample", "app=curl")] == ["curl-2", "curl-3"]


def test_a_client_that_does_not_run_is_told(env: Environment) -> None:
    with pytest.raises(Failure, match="no pod with app=stranger runs in namespace sample"):
        env.client("stranger")


def test_services_and_entries_are_read_by_name(env: Environment) -> None:
    member = env.members[0]
    assert env.entry(member) is None
    path = "/apis/networking.istio.io/v1/namespaces/vmns/workloadentries/entry-lab-vm-1"
    has(env, path, {"metadata": {"name": "entry-lab-vm-1"}, "spec": {"serviceAccount": "external-app"}})
    found = env.entry(member)
    assert found
    assert found.service_account == "external-app"
    has(env, "/api/v1/namespaces/sample/services/helloworld", {"spec": {"clusterIP": "10.43.0.2"}})
    assert env.service("sample", "helloworld")["spec"]["clusterIP"] == "10.43.0.2"
    with pytest.raises(Failure, match="there is no Service sample/nope"):
        env.service("sample", "nope")


def test_helloworld_is_in_the_samples_namespace(env: Environment) -> None:
    assert env.hello == "http://helloworld.sample.svc:5000/hello"
