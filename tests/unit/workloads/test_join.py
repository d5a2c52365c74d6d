"""The decisions of joining and leaving, against a cluster and a machine that only exist as plain data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from components import command_line, ssh
from components.command_line import Failure, Ssh, parse
from components.kube import ApiObject, KubeError, Ran, Unreachable
from components.workloads.files import TOKEN
from components.workloads.join import Join, JoinRequest, RootCertificateRequest, leave, root_certificate
from components.workloads.vm import Vm, VmError, VmUnreachable

GROUP = "/apis/networking.istio.io/v1/namespaces/vmns/workloadgroups/app"
ENTRIES = "/apis/networking.istio.io/v1/namespaces/vmns/workloadentries"
ENTRY = f"{ENTRIES}/app-10.89.1.21-vm-network"
ISTIOD = "/api/v1/namespaces/istio-system/pods/istiod-1"
DOCUMENT: dict[str, Any] = {
    "kubeconfig": "secret-kubeconfig",
    "ssh": {"host": "10.89.1.21", "user": "ubuntu", "private_key": "secret-key", "host_key": "ssh-ed25519 AAAA"},
    "member": {
        "workload": "app",
        "namespace": "vmns",
        "service_account": "app-sa",
        "network": "vm-network",
        "cluster_id": "cluster1",
        "gateway_addresses": ["10.89.0.11"],
        "istiod_port": 15013,
        "address": "10.89.1.21",
        "probe": {"httpGet": {"port": 8000}},
    },
    "package_script": "dpkg -i …",
    "root_certificate": "-----BEGIN CERTIFICATE-----\n…",
    "timeout_seconds": 120,
}


def entry(
    connected: str = "2026-11-21T10:00:00Z", healthy: str | None = "True", reported: str = "2026-11-21T10:00:02Z"
) -> ApiObject:
    annotations = {"istio.io/autoRegistrationGroup": "app", "istio.io/workloadController": "istiod-1"}
    annotations["istio.io/connectedAt" if connected else "istio.io/disconnectedAt"] = (
        connected or "2026-11-21T09:00:00Z"
    )
    condition = {"type": "Healthy", "status": healthy, "message": "connection refused", "lastProbeTime": reported}
    return {
        "metadata": {"name": ENTRY.rpartition("/")[2], "annotations": annotations},
        "spec": {"address": "10.89.1.21", "network": "vm-network", "serviceAccount": "app-sa"},
        "status": {"conditions": [condition] if healthy else []},
    }


class FakeCluster:
    """Objects by path."""

    def __init__(self, **_: Any) -> None:
        self.objects: dict[str, ApiObject] = {GROUP: {}, ISTIOD: {}}
        self.tokens: list[ApiObject] = []
        self.deleted: list[str] = []

    def get(self, path: str) -> ApiObject | None:
        return self.objects.get(path)

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        return [found for at, found in self.objects.items() if at.startswith(f"{path}/")]

    def create(self, path: str, body: ApiObject) -> ApiObject:
        assert path == "/api/v1/namespaces/vmns/serviceaccounts/app-sa/token"
        self.tokens.append(body["spec"])
        return {"status": {"token": "secret-jwt"}}

    def delete(self, path: str) -> bool:
        self.deleted.append(path)
        return self.objects.pop(path, None) is not None

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        raise AssertionError("joining runs nothing in pods")


class GoneCluster(FakeCluster):
    """Does not answer."""

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        raise Unreachable("the cluster's API does not answer")


class FakeVm(Vm):
    """Answers as `on_vm.py` would; `on` does what the machine does meanwhile."""

    def __init__(self, restarts: bool = True) -> None:
        self.restarts = restarts
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.on: dict[str, Callable[[], None]] = {}
        self.unready = 0

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.asked]

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((action, fields))
        if action == "ready" and self.unready:
            self.unready -= 1
            raise VmUnreachable("the connection was lost")
        self.on.get(action, lambda: None)()
        return {
            "ready": {"waiting": False},
            "install": {"changed": ["/x"] if self.restarts else [], "restarted": self.restarts},
            "diagnose": {"state": "active", "log": ["xds: connection refused"]},
            "remove": {"stopped": True},
        }.get(action, {})

    def run(self, script: str, stdin: bytes | None = None, timeout: float = 0) -> str:
        self.asked.append((script, {}))
        return ""


class Clock:
    """Time passes only by sleeping; `at` is what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, Callable[[], None]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)
        for due in sorted(due for due in self.at if due <= self.now):
            self.at.pop(due)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(command_line, "time", SimpleNamespace(monotonic=lambda: made.now))
    yield made


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def request(**changes: Any) -> JoinRequest:
    return parse(JoinRequest, json.dumps({**DOCUMENT, **changes}))


def run(
    cluster: FakeCluster, vm: FakeVm, clock: Clock, lines: list[str] | None = None, **changes: Any
) -> dict[str, Any]:
    progress = lines.append if lines is not None else lambda _: None
    return Join(request(**changes), cluster, vm, progress, clock.sleep).run()


def sets(cluster: FakeCluster, found: ApiObject | None) -> Callable[[], None]:
    def put() -> None:
        cluster.objects.pop(ENTRY, None)
        if found:
            cluster.objects[ENTRY] = found

    return put


def test_a_first_join_ends_with_a_healthy_entry(cluster: FakeCluster, clock: Clock) -> None:
    vm, lines = FakeVm(), list[str]()
    clock.at = {2.0: sets(cluster, entry(healthy=None)), 4.0: sets(cluster, entry())}
    answer = run(cluster, vm, clock, lines)
    assert answer == {
        "workload_entry": "app-10.89.1.21-vm-network",
        "namespace": "vmns",
        "address": "10.89.1.21",
        "healthy": True,
        "connected_at": "2026-11-21T10:00:00Z",
    }
    assert vm.actions == ["ready", "dpkg -i …", "install"]
    assert cluster.tokens == [{"audiences": ["istio-ca"], "expirationSeconds": 3600}]
    assert 4.0 <= clock.now < 5.0
    assert not any("secret" in line for line in lines)


def test_the_machine_gets_every_file_in_one_go(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm()
    cluster.objects[ENTRY] = entry("before")
    vm.on["install"] = sets(cluster, entry("after", reported="after"))
    run(cluster, vm, clock)
    fields = dict(vm.asked)["install"]
    assert fields["hosts"] == "10.89.0.11 istiod.istio-system.svc\n"
    token = next(file for file in fields["files"] if file["path"] == TOKEN)
    assert token == {
        "path": TOKEN,
        "content": "secret-jwt",
        "mode": 0o600,
        "owner": "istio-proxy",
        "effect": "none",
        "rewritten": False,
    }
    json.dumps(fields)


def test_a_healthy_unchanged_member_is_left_alone(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    cluster.objects[ENTRY] = entry()
    assert run(cluster, vm, clock)["healthy"]
    assert clock.now == 0.0
    assert "restart" not in vm.actions


def test_after_a_restart_the_old_connection_does_not_count(cluster: FakeCluster, clock: Clock) -> None:
    cluster.objects[ENTRY] = entry("2026-11-21T09:00:00Z")
    clock.at = {6.0: sets(cluster, entry("2026-11-21T10:00:00Z", reported="later"))}
    run(cluster, FakeVm(), clock)
    assert clock.now >= 6.0


def test_after_a_restart_the_old_health_does_not_count(cluster: FakeCluster, clock: Clock) -> None:
    cluster.objects[ENTRY] = entry("old", reported="old")
    clock.at = {2.0: sets(cluster, entry("new", reported="old")), 6.0: sets(cluster, entry("new", reported="new"))}
    run(cluster, FakeVm(), clock)
    assert clock.now >= 6.0


def test_an_entry_deleted_by_hand_comes_back_by_one_restart(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    vm.on["restart"] = sets(cluster, entry())
    run(cluster, vm, clock)
    assert vm.actions.count("restart") == 1
    assert 10.0 <= clock.now < 12.0


def test_a_connection_to_an_istiod_that_is_gone_does_not_count(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    cluster.objects[ENTRY] = entry("old")
    vm.on["restart"] = sets(cluster, entry("new"))
    del cluster.objects[ISTIOD]
    with pytest.raises(Failure, match="istiod-1, an istiod pod that is gone"):
        run(cluster, vm, clock)
    assert vm.actions.count("restart") == 1


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "no WorkloadEntry for 10.89.1.21 has appeared: the sidecar has not connected to istiod"),
        (entry(connected=""), "is there, but the sidecar is not connected to istiod"),
        (entry(healthy="False"), "its application is not healthy: connection refused"),
        (entry(healthy=None), "its first health report has not come yet"),
    ],
)
def test_a_failure_gives_the_reason_and_the_sidecars_last_words(
    cluster: FakeCluster, clock: Clock, found: ApiObject | None, reason: str
) -> None:
    vm = FakeVm()
    vm.on["install"] = sets(cluster, found)
    with pytest.raises(Failure) as failure:
        run(cluster, vm, clock)
    assert reason in str(failure.value)
    assert "istio.service is active" in str(failure.value)
    assert "xds: connection refused" in str(failure.value)
    assert "secret" not in str(failure.value)
    assert 119 <= clock.now <= 121


def test_a_missing_group_is_the_reason(cluster: FakeCluster, clock: Clock) -> None:
    del cluster.objects[GROUP]
    with pytest.raises(Failure, match="no WorkloadGroup vmns/app"):
        run(cluster, FakeVm(), clock)


def test_other_members_entries_are_not_ours(cluster: FakeCluster, clock: Clock) -> None:
    other = json.loads(json.dumps(entry()))
    other["spec"]["address"] = "10.89.1.22"
    cluster.objects[f"{ENTRIES}/other"] = other
    with pytest.raises(Failure, match=r"no WorkloadEntry for 10\.89\.1\.21"):
        run(cluster, FakeVm(), clock)


def test_an_entry_of_another_identity_makes_way(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm()
    other = json.loads(json.dumps(entry("old")))
    other["spec"]["serviceAccount"] = "other"
    cluster.objects[ENTRY] = other
    vm.on["install"] = lambda: cluster.objects.setdefault(ENTRY, entry("new"))
    run(cluster, vm, clock)
    assert cluster.deleted == [ENTRY]


def test_without_a_probe_a_connection_is_enough(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm()
    vm.on["install"] = sets(cluster, entry(healthy=None))
    assert run(cluster, vm, clock, member={**DOCUMENT["member"], "probe": None})["healthy"]


def test_a_connection_lost_while_cloud_init_works_is_not_the_end(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    vm.unready = 3
    cluster.objects[ENTRY] = entry()
    assert run(cluster, vm, clock)["healthy"]
    assert vm.actions[:4] == ["ready"] * 4


def test_a_machine_that_never_answers_is_named(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm()
    vm.unready = 10_000
    with pytest.raises(Failure, match=r"the connection was lost after 120 s.*cloud-init status --long"):
        run(cluster, vm, clock)


def test_a_ssh_port_of_its_own_stays_open(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    cluster.objects[ENTRY] = entry()
    run(cluster, vm, clock, ssh={**DOCUMENT["ssh"], "port": 2222})
    environment = dict(vm.asked)["install"]["files"][0]["content"]
    assert "ISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020,2222'\n" in environment


def test_leaving_takes_callers_away_before_the_sidecar_stops(cluster: FakeCluster) -> None:
    vm = FakeVm()
    cluster.objects[ENTRY] = entry()
    vm.on["remove"] = lambda: cluster.deleted.append("sidecar stopped")
    assert leave(request(), cluster, vm, lambda _: None) == {"entry_removed": True, "sidecar_stopped": True}
    assert cluster.deleted == [ENTRY, "sidecar stopped"]
    assert TOKEN in dict(vm.asked)["remove"]["paths"]


def test_leaving_removes_an_entry_that_came_back(cluster: FakeCluster) -> None:
    vm = FakeVm()
    cluster.objects[ENTRY] = entry()
    vm.on["remove"] = sets(cluster, entry())
    leave(request(), cluster, vm, lambda _: None)
    assert ENTRY not in cluster.objects


def test_leaving_goes_on_without_the_machine(cluster: FakeCluster) -> None:
    class Gone(FakeVm):
        def ask(self, action: str, **fields: Any) -> dict[str, Any]:
            raise VmUnreachable("10.89.1.21 cannot be reached")

    lines: list[str] = []
    cluster.objects[ENTRY] = entry()
    assert leave(request(), cluster, Gone(), lines.append) == {"entry_removed": True, "sidecar_stopped": False}
    assert "going on without it: 10.89.1.21 cannot be reached" in lines


def test_leaving_goes_on_without_the_cluster() -> None:
    lines: list[str] = []
    answer = leave(request(), GoneCluster(), FakeVm(), lines.append)
    assert answer == {"entry_removed": False, "sidecar_stopped": True}
    assert lines.count("going on without it: the cluster's API does not answer") == 1


def test_the_root_certificate_is_waited_for(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = RootCertificateRequest(kubeconfig="", namespace="vmns", timeout_seconds=0.01)
    with pytest.raises(Failure, match="istio-ca-root-cert is not in namespace vmns yet after 0 s"):
        root_certificate(wanted, cluster, lambda _: None)
    cluster.objects["/api/v1/namespaces/vmns/configmaps/istio-ca-root-cert"] = {"data": {"root-cert.pem": "PEM"}}
    assert root_certificate(wanted, cluster, lambda _: None) == {"root_certificate": "PEM"}


def test_a_document_with_errors_is_refused_without_its_secrets() -> None:
    document = {**DOCUMENT, "token_seconds": 5, "extra": 1, "root_certificate": "secret-pem"}
    del document["ssh"]
    with pytest.raises(Failure) as failure:
        parse(JoinRequest, json.dumps(document))
    for key in ("ssh", "token_seconds", "extra", "root_certificate"):
        assert f"- {key}: " in str(failure.value)
    assert "secret" not in str(failure.value)
    assert "secret" not in repr(request())


class Sessions:
    """Stands for `ssh.connect`; `fails` are raised by the next runs."""

    def __init__(self, *fails: ssh.SshError) -> None:
        self.fails = list(fails)
        self.connections = 0
        self.scripts: list[tuple[str, bytes | None]] = []

    def __call__(self, *_: Any) -> Any:
        return self

    def __enter__(self) -> Any:
        self.connections += 1
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, script: str, stdin: bytes | None = None, timeout: float | None = None) -> str:
        self.scripts.append((script, stdin))
        if self.fails:
            raise self.fails.pop(0)
        return "{}"


TARGET = Ssh(host="vm", user="u", private_key="k", host_key="h")


def test_one_session_serves_every_question_and_secrets_are_in_none_of_its_commands() -> None:
    sessions = Sessions()
    with Vm(TARGET, sessions) as vm:
        vm.ask("install", files=[{"content": "secret-jwt"}])
        vm.ask("diagnose")
    assert sessions.connections == 1
    assert all("secret-jwt" not in script for script, _ in sessions.scripts)
    assert b"secret-jwt" in (sessions.scripts[0][1] or b"")


def test_a_lost_connection_is_made_anew_and_a_failed_command_is_not() -> None:
    sessions = Sessions(ssh.SshError("lost"), ssh.CommandError("failed", 1), ssh.HostKeyError("another key"))
    with Vm(TARGET, sessions) as vm:
        with pytest.raises(VmUnreachable, match="vm: lost"):
            vm.ask("ready")
        for reason in ("failed", "another key"):
            with pytest.raises(VmError, match=reason) as refused:
                vm.ask("ready")
            assert not isinstance(refused.value, VmUnreachable)
        vm.ask("ready")
    assert sessions.connections == 2


def test_a_refusal_of_the_cluster_ends_the_join_at_once(cluster: FakeCluster, clock: Clock) -> None:
    def refuse(path: str, body: ApiObject) -> ApiObject:
        raise KubeError("serviceaccounts app-sa not found")

    cluster.create = refuse  # type: ignore[method-assign]
    with pytest.raises(KubeError, match="app-sa not found"):
        run(cluster, FakeVm(), clock)
    assert clock.now == 0.0
