"""The decisions of joining and leaving, against a cluster and a machine that only exist as plain data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from actions import protocol, ssh
from actions.kube import ApiObject, KubeError, Ran, Unreachable
from actions.protocol import Failure, Ssh, parse
from actions.workloads.files import TOKEN, UNIT_DROP_IN
from actions.workloads.join import Join, JoinRequest, leave
from actions.workloads.vm import Vm, VmError, VmUnreachable
from tests.unit.workloads.test_certificate import signed
from tests.unit.workloads.test_routes import node

GROUP = "/apis/networking.istio.io/v1/namespaces/vmns/workloadgroups/app"
ENTRIES = "/apis/networking.istio.io/v1/namespaces/vmns/workloadentries"
ENTRY = f"{ENTRIES}/app-10.89.1.21-vm-network"
ISTIOD = "/api/v1/namespaces/istio-system/pods/istiod-1"
OLD, NEW = "2026-11-21T09:00:00.25Z", "2026-11-21T10:00:00.123456789Z"
"""Times as Go prints them."""
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


def at(time: str) -> float:
    """Seconds since 1970 of a time on the day of these tests."""
    return datetime.fromisoformat(f"2026-11-21T{time}Z").timestamp()


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
        self.certificate: str | None = None
        self.silent: set[str] = set()
        self.running_since = at("09:00:00")

    @property
    def actions(self) -> list[str]:
        """What it was asked to do, questions aside."""
        return [action for action, _ in self.asked if action not in ("certificate", "reach")]

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((action, fields))
        if action == "ready" and self.unready:
            self.unready -= 1
            raise VmUnreachable("the connection was lost")
        self.on.get(action, lambda: None)()
        return {
            "ready": {"waiting": False},
            "certificate": {"pem": self.certificate, "now": at("10:00:30")},
            "install": {
                "changed": ["/x"] if self.restarts else [],
                "restarted": self.restarts,
                "running_since": self.running_since,
                "host_name": "vm",
            },
            "reach": {"silent": {at: "timed out" for at in fields.get("addresses", ()) if at in self.silent}},
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
    monkeypatch.setattr(protocol, "time", SimpleNamespace(monotonic=lambda: made.now))
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
        "host_name": "vm",
        "healthy": True,
        "connected_at": "2026-11-21T10:00:00Z",
    }
    assert vm.actions == ["ready", "dpkg -i …", "install"]
    assert cluster.tokens == [{"audiences": ["istio-ca"], "expirationSeconds": 3600}]
    assert 4.0 <= clock.now < 5.0
    assert not any("secret" in line for line in lines)


def test_the_machine_gets_every_file_in_one_go(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm()
    vm.on["install"] = sets(cluster, entry())
    run(cluster, vm, clock)
    fields = dict(vm.asked)["install"]
    assert fields["hosts"] == "10.89.0.11 istiod.istio-system.svc\n"
    assert fields["port"] == 15013
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
    cluster.objects[ENTRY] = entry(OLD)
    clock.at = {6.0: sets(cluster, entry(NEW, reported=NEW))}
    run(cluster, FakeVm(), clock)
    assert clock.now >= 6.0


def test_after_a_restart_the_old_health_does_not_count(cluster: FakeCluster, clock: Clock) -> None:
    cluster.objects[ENTRY] = entry(OLD, reported=OLD)
    clock.at = {2.0: sets(cluster, entry(NEW, reported=OLD)), 6.0: sets(cluster, entry(NEW, reported=NEW))}
    run(cluster, FakeVm(), clock)
    assert clock.now >= 6.0


def test_a_connection_from_before_the_sidecars_own_start_does_not_count(cluster: FakeCluster, clock: Clock) -> None:
    """As after a power failure, of which istiod has not heard."""
    vm = FakeVm(restarts=False)
    vm.running_since = at("09:30:00")
    cluster.objects[ENTRY] = entry(OLD, reported=OLD)
    clock.at = {4.0: sets(cluster, entry(NEW, reported=OLD)), 6.0: sets(cluster, entry(NEW, reported=NEW))}
    assert run(cluster, vm, clock)["connected_at"] == NEW
    assert 6.0 <= clock.now < 7.0
    assert "restart" not in vm.actions


def test_clocks_that_are_seconds_apart_do_not_matter(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    vm.running_since = at("10:00:05")
    cluster.objects[ENTRY] = entry(NEW, reported=NEW)
    run(cluster, vm, clock)
    assert clock.now == 0.0


def test_health_from_before_a_restart_does_not_count_when_the_restart_was_a_remedy(
    cluster: FakeCluster, clock: Clock
) -> None:
    vm = FakeVm(restarts=False)
    cluster.objects[ENTRY] = entry("", reported=NEW)
    vm.on["restart"] = lambda: clock.at.update(
        {12.0: sets(cluster, entry(NEW, reported=NEW)), 14.0: sets(cluster, entry(NEW))}
    )
    run(cluster, vm, clock)
    assert 14.0 <= clock.now < 15.0


PROBE: dict[str, Any] = {"httpGet": {"port": 8000}, "periodSeconds": 2, "failureThreshold": 2}


def test_a_sidecar_that_does_not_tell_its_health_is_restarted(cluster: FakeCluster, clock: Clock) -> None:
    """Somebody deleted the WorkloadGroup: istiod made its entries anew, and the sidecar had told its health before."""
    vm, lines = FakeVm(restarts=False), list[str]()
    cluster.objects[ENTRY] = entry(healthy=None)
    vm.on["restart"] = lambda: clock.at.update({20.0: sets(cluster, entry(NEW, reported=NEW))})
    assert run(cluster, vm, clock, lines, member={**DOCUMENT["member"], "probe": PROBE})["connected_at"] == NEW
    assert vm.actions.count("restart") == 1
    assert any("health report has not come yet: restarting the sidecar" in line for line in lines)
    assert 20.0 <= clock.now < 21.0


@pytest.mark.parametrize("restarts", [True, False])
def test_a_report_that_takes_its_time_is_waited_for(cluster: FakeCluster, clock: Clock, restarts: bool) -> None:
    vm = FakeVm(restarts=restarts)
    probe = {**PROBE, "initialDelaySeconds": 30}
    late = {"install": sets(cluster, entry(NEW, healthy=None))}
    vm.on = {**late, "restart": lambda: pytest.fail("nobody should restart it")}
    clock.at = {40.0: sets(cluster, entry(NEW, reported=NEW))}
    assert run(cluster, vm, clock, member={**DOCUMENT["member"], "probe": probe})["healthy"]
    assert 40.0 <= clock.now < 41.0


def test_a_sidecar_that_says_that_its_application_is_ill_is_left_running(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    cluster.objects[ENTRY] = entry(healthy="False")
    clock.at = {90.0: sets(cluster, entry())}
    assert run(cluster, vm, clock)["healthy"]
    assert "restart" not in vm.actions


@pytest.mark.parametrize(
    ("pem", "dropped"), [(None, False), (signed(life=31), False), (signed(life=30), True), ("garbage", True)]
)
def test_a_certificate_that_is_no_good_is_replaced(
    cluster: FakeCluster, clock: Clock, pem: str | None, dropped: bool
) -> None:
    vm, lines = FakeVm(restarts=dropped), list[str]()
    vm.certificate = pem
    vm.on["install"] = sets(cluster, entry())
    run(cluster, vm, clock, lines)
    assert dict(vm.asked)["install"]["new_certificate"] is dropped
    assert any("it will get one for the token" in line for line in lines) is dropped


def test_the_machine_gets_routes_to_the_pods_of_the_nodes_asked_for(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm()
    vm.on["install"] = sets(cluster, entry())
    for number in (1, 2, 3):
        cluster.objects[f"/api/v1/nodes/node-{number}"] = node(f"10.89.0.{number}", f"10.42.{number}.0/24")
    late = cluster.objects.pop("/api/v1/nodes/node-3")
    clock.at = {3.0: lambda: cluster.objects.update({"/api/v1/nodes/node-3": late})}
    run(cluster, vm, clock, node_addresses=["10.89.0.3", "10.89.0.1"])
    assert 3.0 <= clock.now < 4.0
    unit = next(file for file in dict(vm.asked)["install"]["files"] if file["path"] == UNIT_DROP_IN)
    assert [line for line in unit["content"].splitlines() if " replace " in line] == [
        "ExecStartPre=ip route replace 10.42.3.0/24 via 10.89.0.3",
        "ExecStartPre=ip route replace 10.42.1.0/24 via 10.89.0.1",
    ]


def test_a_node_that_never_comes_is_named(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm()
    with pytest.raises(Failure, match=r"no node at 10\.89\.0\.3 has addresses for pods after 120 s"):
        run(cluster, vm, clock, node_addresses=["10.89.0.3"])
    assert "install" not in vm.actions


def test_a_gateway_that_answers_nowhere_is_told_soon(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    member = {**DOCUMENT["member"], "gateway_addresses": ["10.89.0.11", "10.89.0.12"]}
    vm.silent = {"10.89.0.11", "10.89.0.12"}
    with pytest.raises(Failure) as failure:
        run(cluster, vm, clock, member=member)
    tried = "10.89.0.11 port 15013 (timed out), 10.89.0.12 port 15013 (timed out)"
    assert f"10.89.1.21 does not reach istiod: the east-west gateway answers at none of its addresses, {tried}." in str(
        failure.value
    )
    assert clock.now < 45
    assert "restart" not in vm.actions


def test_a_gateway_that_is_being_started_is_waited_for(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    vm.silent = {"10.89.0.11"}
    clock.at = {30.0: vm.silent.clear}
    vm.on["restart"] = sets(cluster, entry())
    assert run(cluster, vm, clock)["healthy"]
    assert 30.0 <= clock.now < 32.0


def test_one_address_that_answers_is_enough(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    vm.silent = {"10.89.0.11"}
    vm.on["restart"] = sets(cluster, entry())
    run(cluster, vm, clock, member={**DOCUMENT["member"], "gateway_addresses": ["10.89.0.11", "10.89.0.12"]})
    assert clock.now < 12.0


def test_an_entry_deleted_by_hand_comes_back_by_one_restart(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    vm.on["restart"] = sets(cluster, entry())
    run(cluster, vm, clock)
    assert vm.actions.count("restart") == 1
    assert 10.0 <= clock.now < 12.0


def test_a_connection_to_an_istiod_that_is_gone_does_not_count(cluster: FakeCluster, clock: Clock) -> None:
    vm = FakeVm(restarts=False)
    cluster.objects[ENTRY] = entry(OLD)
    vm.on["restart"] = sets(cluster, entry(NEW))
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
    other = json.loads(json.dumps(entry(OLD)))
    other["spec"]["serviceAccount"] = "other"
    cluster.objects[ENTRY] = other
    vm.on["install"] = lambda: cluster.objects.setdefault(ENTRY, entry(NEW))
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


def test_what_was_asked_as_the_connection_was_lost_is_asked_once_more() -> None:
    sessions = Sessions(ssh.SshError("lost"))
    with Vm(TARGET, sessions) as vm:
        vm.ask("install", files=[])
    assert sessions.connections == 2
    assert sessions.scripts[0] == sessions.scripts[1]


def test_a_script_of_others_is_not_run_twice() -> None:
    sessions = Sessions(ssh.SshError("lost"))
    with Vm(TARGET, sessions) as vm, pytest.raises(VmUnreachable, match="vm: lost"):
        vm.run("apt-get update")
    assert len(sessions.scripts) == 1


def test_a_lost_connection_is_made_anew_and_a_failed_command_is_not() -> None:
    lost = ssh.SshError("lost")
    sessions = Sessions(lost, lost, ssh.CommandError("failed", 1), ssh.HostKeyError("another key"))
    with Vm(TARGET, sessions) as vm:
        with pytest.raises(VmUnreachable, match="vm: lost"):
            vm.ask("ready")
        for reason in ("failed", "another key"):
            with pytest.raises(VmError, match=reason) as refused:
                vm.ask("ready")
            assert not isinstance(refused.value, VmUnreachable)
        vm.ask("ready")
    assert sessions.connections == 3


def test_a_machine_that_does_not_let_us_in_is_not_asked_again() -> None:
    class Refusing(Sessions):
        def __enter__(self) -> Any:
            super().__enter__()
            raise ssh.SshError("refused")

    sessions = Refusing()
    with Vm(TARGET, sessions) as vm, pytest.raises(VmUnreachable, match="vm: refused"):
        vm.ask("ready")
    assert sessions.connections == 1


def test_a_refusal_of_the_cluster_ends_the_join_at_once(cluster: FakeCluster, clock: Clock) -> None:
    def refuse(path: str, body: ApiObject) -> ApiObject:
        raise KubeError("serviceaccounts app-sa not found")

    cluster.create = refuse  # type: ignore[method-assign]
    with pytest.raises(KubeError, match="app-sa not found"):
        run(cluster, FakeVm(), clock)
    assert clock.now == 0.0
