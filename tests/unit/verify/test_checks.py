"""Every check holds in a mesh that is well, and fails when its subject is broken."""

from __future__ import annotations

import copy
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from actions.protocol import Failure
from actions.workloads import certificate
from tests.unit.verify.world import (
    EPOCH,
    FORBIDDEN,
    HELLO_VM,
    REJECTED,
    RESET,
    TIMED_OUT,
    UNREACHABLE,
    VMS,
    Call,
    FakeVm,
    Reply,
    World,
    hello,
)
from verify.checks import CHECKS, identity, spread
from verify.finding import Finding, Verdict

BY_NAME = {check.name: check for check in CHECKS}
DISTURBING = [check.name for check in CHECKS if check.disturbs]
Break = Callable[[World], None]
T = TypeVar("T")


class AtOnce(ThreadPoolExecutor):
    """Runs what it is given before the caller goes on: a thread and the world's clock would race."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A mesh with a clock of its own. Whatever is stopped while time passes has a timer that would start it again."""
    made = World()

    def sleep(seconds: float) -> None:
        made.now += max(seconds, 0.01)
        stopped = {*made.stopped, *made.sidecar_off, *made.failing}
        assert stopped <= set(made.timers)

    def rejoin(command: list[str], **options: Any) -> SimpleNamespace:
        *words, vm, option, stack = command[1:]
        assert (words, option) == (["-m", "commands", "rejoin"], "--stack")
        code = made.rejoin(f"{stack}-{vm}")
        return SimpleNamespace(returncode=code, stdout="", stderr="error: no such VM\n" if code else "it is a member\n")

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return EPOCH + timedelta(seconds=made.now)

    def read(vm: FakeVm) -> certificate.Certificate | None:
        return made.certificate(vm.name)

    def flaw(vm: FakeVm, spiffe_id: str) -> str | None:
        assert spiffe_id.endswith("helloworld-vm" if vm.name == HELLO_VM else "external-app")
        return made.flaws.get(vm.name)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(subprocess, "run", rejoin)
    monkeypatch.setattr(identity, "datetime", Clock)
    monkeypatch.setattr(spread, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(certificate, "read", read)
    monkeypatch.setattr(certificate, "flaw", flaw)
    return made


def renew(world: World, **fields: Any) -> None:
    """Make the mesh a new one."""
    vars(world).update(vars(World(**fields)))


def run(world: World, name: str, change: Callable[[dict[str, Any]], Any] = lambda tables: None) -> list[Finding]:
    """What a check found, up to where it could not be carried through."""
    findings: list[Finding] = []
    try:
        for finding in BY_NAME[name].run(world.environment(change)):
            findings.append(finding)
    except Failure as failure:
        findings.append(Finding(f"broken off: {failure}", "", "", Verdict.FAILS))
    return findings


def failed(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.verdict is Verdict.FAILS]


@pytest.mark.parametrize("name", BY_NAME)
def test_a_mesh_that_is_well_keeps_every_promise(world: World, name: str) -> None:
    findings = run(world, name)
    assert findings
    assert [f for f in findings if f.verdict is not Verdict.HOLDS] == []
    assert all(finding.how and finding.evidence for finding in findings)
    assert world.left_alone()


def on(ends: Reply | str, first: int = 0, end: int = 1000, **wanted: str) -> Break:
    """Breaks calls whose source, host and path begin like this, of a series from `first` to before `end`: how they end, or who answers."""

    def matches(call: Call) -> bool:
        return first <= call.number < end and all(getattr(call, key).startswith(text) for key, text in wanted.items())

    return state(broken=lambda call: ends if matches(call) else None)


def state(**fields: Any) -> Break:
    """Breaks fields of the world."""

    def breaking(world: World) -> None:
        for name, value in fields.items():
            assert hasattr(world, name)
            setattr(world, name, copy.deepcopy(value))

    return breaking


def both(*breaks: Break) -> Break:
    def breaking(world: World) -> None:
        for one in breaks:
            one(world)

    return breaking


POD, VM_1, VM_4 = "helloworld-v1-a", "lab-vm-1", "lab-vm-4"
FAULT = Reply(503, "made to fail\n", "lab-vm-3")
OTHER = "spiffe://cluster.local/ns/a/sa/b"
LOST = Reply(0, exit_code=28, connected=True)
BROKEN = Reply(0, exit_code=2, connected=False)

SLOW = state(probe_seconds=5, pod_seconds=5)

NOTICED_ONCE = {
    "an entry is not connected": ("membership", state(not_connected={"lab-vm-2"}), "external-app: 3 member(s)"),
    "what status finds": ("state", state(found=["member-root"]), "cluster and VMs have one root"),
    "what status finds that no promise names": ("state", state(found=["something-new"]), "everything answers"),
    "a pod without its sidecar": ("injection", state(bare={"stranger"}), "sample: every pod has a sidecar"),
    "a pod with a sidecar of another revision": (
        "injection", state(revisions={"stranger": "1-31"}), "sample: every pod has a sidecar",
    ),
    "a pod answers past its Service": (
        "injection", on(POD, source="sample-outside", host="10.42.9.9"),
        "pod sample/curl: plaintext", "pod sample/stranger: plaintext", "pod sample-guarded/curl: plaintext",
    ),
    "an address where nobody answers": (
        "addresses", state(answering={"10.89.0.13": "timed out"}), "istiod answers at every address",
    ),
    "an address of somebody else": (
        "addresses", state(answering={"10.89.0.13": ["billing.example"]}), "istiod answers at every address",
    ),
    "another address for a name of the mesh": (
        "dns", state(names={"helloworld.sample.svc": ["10.43.9.9"]}), "names of the mesh",
    ),
    "one address too many for a name of the mesh": (
        "dns", state(names={"external-app.vmns.svc": ["10.43.0.3", "10.43.9.9"]}), "names of the mesh",
    ),
    "an ordinary name does not resolve": ("dns", state(names={"lab-agent-1": []}), "ordinary names still resolve"),
    "another address for an ordinary name": (
        "dns", state(names={"lab-agent-1": ["10.0.0.1"]}), "ordinary names still resolve",
    ),
    "a wrong name resolves": ("dns", state(names={"nowhere.sample.svc": ["10.0.0.1"]}), "wrong ones do not"),
    "a VM never reaches one version": ("vm-to-mesh", on(POD, source="lab-vm-2"), "lab-vm-2 → helloworld"),
    "a VM's call of many fails": ("vm-to-mesh", on(Reply(503), 2, 3, source="lab-vm-4"), "lab-vm-4 → helloworld"),
    "another caller": ("mesh-to-vm", state(caller=OTHER), "pod → lab-vm-"),
    "another server": ("mesh-to-vm", state(identities={"lab-vm-2": OTHER}), "pod → lab-vm-2"),
    "no call gets to some VMs": (
        "mesh-to-vm", on(VM_1, host="external-app", path="/headers"), "pod → lab-vm-2", "pod → lab-vm-3",
    ),
    "a VM of another network reaches pods": (
        "networks", on(RESET, source="uncaptured/lab-vm-1"), "lab-vm-1 (multi-network): no way to pod addresses",
    ),
    "a VM of the pods' network does not reach them": (
        "networks", on(TIMED_OUT, source="uncaptured/lab-vm-4"),
        "lab-vm-4 (single-network): a way to pod addresses",
    ),
    "a VM of another network sends packets to pods": (
        "networks", on(LOST, source="uncaptured/lab-vm-1"), "lab-vm-1 (multi-network): no way to pod addresses",
    ),
    "a VM of another network cannot tell": (
        "networks", on(BROKEN, source="uncaptured/lab-vm-1"), "lab-vm-1 (multi-network): no way to pod addresses",
    ),
    "endpoints are pods instead of the gateway": (
        "networks", state(endpoints={"lab-vm-1": ["10.89.0.11:15443", "10.42.0.4:5000"]}),
        "lab-vm-1 (multi-network): helloworld is reached through the gateway",
    ),
    "endpoints are the gateway instead of pods": (
        "networks", state(endpoints={"lab-vm-4": ["10.42.0.4:5000", "10.89.0.11:15443"]}),
        "lab-vm-4 (single-network): helloworld is reached at its pods",
    ),
    "endpoints are VMs only": (
        "networks", state(endpoints={"lab-vm-4": [f"{VMS[HELLO_VM]}:5000"]}),
        "lab-vm-4 (single-network): helloworld is reached at its pods",
    ),
    "no endpoints": (
        "networks", state(endpoints={"lab-vm-2": []}), "lab-vm-2 (multi-network): helloworld is reached",
    ),
    "files lack an address of the gateway": (
        "gateway", state(hosts={"lab-vm-2": "10.89.0.11"}), "lab-vm-2 is connected to the gateway",
    ),
    "files have an old address of the gateway": (
        "gateway", state(hosts={"lab-vm-2": "10.89.0.99"}), "lab-vm-2 is connected to the gateway",
    ),
    "files have an old port of the gateway": (
        "gateway", state(ports={"lab-vm-2": 15012}), "lab-vm-2 is connected to the gateway",
    ),
    "a connection to an old address of the gateway": (
        "gateway", state(peers={"lab-vm-3": "10.89.0.99:15013"}), "lab-vm-3 is connected to the gateway",
    ),
    "a connection to an old port of the gateway": (
        "gateway", state(peers={"lab-vm-3": "10.89.0.13:15012"}), "lab-vm-3 is connected to the gateway",
    ),
    "a VM that never joined": (
        "gateway", state(hosts={"lab-vm-1": ""}, ports={"lab-vm-1": 0}, peers={"lab-vm-1": ""}),
        "lab-vm-1 is connected to the gateway",
    ),
    "plaintext is answered": ("mtls", on(VM_1, source="sample-outside", host=VMS["lab-vm-1"]), "VM lab-vm-1 (vmns"),
    "a stranger is admitted": (
        "authorization", on(VM_1, source="sample/stranger", host="external"), "external-app: account stranger is",
    ),
    "a stranger is admitted once": (
        "authorization", on(POD, 5, 6, source="sample/stranger", host="helloworld"), "helloworld: account stranger is",
    ),
    "a stranger fails otherwise": ("authorization", on(UNREACHABLE, source="sample/stranger"), "stranger is refused"),
    "an unexposed service is reached": (
        "exposure", on(POD, 3, 4, source="lab-vm-1", host="helloworld-shift"), "helloworld-shift is not exposed",
    ),
    "the guard leaks": (
        "egress-guard", on(RESET, source="sample-guarded/plain", host="10.89.1.11"), "sample-guarded ⇥ lab-vm-2: no",
    ),
    "the guard leaks packets without an answer": (
        "egress-guard", on(LOST, source="sample-guarded/plain", host="10.89.1.11"), "sample-guarded ⇥ lab-vm-2: no",
    ),
    "a guarded pod cannot tell": (
        "egress-guard", on(BROKEN, source="sample-guarded/plain", host="10.89.1.11"), "sample-guarded ⇥ lab-vm-2: no",
    ),
    "the guard leaks by the sidecar": (
        "egress-guard", on(VM_1, source="sample-guarded/curl"), "a sidecar is no way around",
    ),
    "the guard leaks by the sidecar to a VM that refuses": (
        "egress-guard", on(FORBIDDEN, source="sample-guarded/curl"), "a sidecar is no way around",
    ),
    "the guard leaks by the sidecar to a VM that fails": (
        "egress-guard", on(FAULT, source="sample-guarded/curl"), "a sidecar is no way around",
    ),
    "the guard blocks pods too": (
        "egress-guard", on(TIMED_OUT, source="sample-guarded/plain", host="10.42"), "everything else is still reached",
    ),
    "no line in a VM's log": (
        "telemetry", state(logging=lambda instance: instance not in VMS), "lab-vm-1: logs the request it served",
    ),
    "no line in a pod's log": (
        "telemetry", state(logging=lambda instance: instance in VMS), "helloworld-v1-a: logs the request it served",
    ),
    "a share is off": (
        "routing", on(VM_4, end=50, source="sample/curl", host="helloworld-shift"),
        "helloworld-shift: v1 90 % ± 7, vm 10 % ± 7",
    ),
    "a header is ignored": (
        "routing", on(POD, 30, 31, host="helloworld-shift"), "helloworld-shift with x-version: vm: vm 100 % ± 0",
    ),
    "a version nobody asked for": (
        "routing", on("helloworld-v2-b", 299, host="helloworld-shift"), "helloworld-shift: v1 90",
    ),
    "an error among many shares": ("routing", on(Reply(503), 299, host="helloworld-shift"), "helloworld-shift: v1 90"),
    "no retries": ("resilience", state(retries=False), "retries hide it"),
    "never ejected": ("resilience", state(ejects=False), "is ejected after 3 errors"),
    "calls fail after the mesh knows": (
        "spread", on(Reply(503), 61, 62, host="helloworld."), "stopped, the others serve", "deleted, the others serve",
    ),
    "too many calls fail until the mesh knows": (
        "spread", both(SLOW, on(Reply(503), 60, 110, host="helloworld.")),
        "lab-vm-4's application stopped, the others serve", "helloworld-v2-b deleted, the others serve",
    ),
    "pods return and are not ready": (
        "spread", state(pods_ready=False), "broken off: not within 60 s: helloworld's pods ready",
    ),
    "pods do not return": ("spread", state(pods_return=False), "broken off: not within 60 s: helloworld's pods ready"),
    "a stopped VM gets its share of calls": (
        "health", state(spares=False), "broken off: not within 60 s: callers know of lab-vm-3",
    ),
    "the entry of a VM that left stays": (
        "registration", state(sweeps=False), "broken off: not within 90 s: WorkloadEntry entry-of-lab-vm-1 gone",
    ),
    "a VM that left never returns": (
        "registration", state(restarts=False), "broken off: not within 90 s: entry-of-lab-vm-1 back",
    ),
    "a certificate that is no good": ("identity", state(flaws={"lab-vm-2": "is over"}), "lab-vm-2 has a valid"),
    "no certificate": ("identity", state(uncertified={"lab-vm-2"}), "lab-vm-2 has a valid"),
    "no certificate to wait for": (
        "identity", state(uncertified={HELLO_VM}),
        "lab-vm-4 has a valid", "broken off: lab-vm-4 has no certificate",
    ),
    "a renewal as another one": ("identity", state(identity_on_renewal=OTHER), "identity survives the token"),
    "no renewal": ("identity", state(renews=False), "broken off: not within 90 s: another certificate"),
    "nothing lapses": ("identity", state(lapses=False), "without a valid certificate or token it is no member"),
    "no way back": ("identity", state(rejoin_code=1), "broken off: make rejoin VM=vm-4 failed: error: no such VM"),
    "it serves, but is no member": (
        "identity", state(rejoin_connects=False), "`make rejoin` brings it back",
    ),
    "another machine comes back": ("identity", state(boot_on_rejoin="boot-2"), "`make rejoin` brings it back"),
}  # fmt: skip
"""What is broken, the check for it, and the findings of that check that say so; every other check holds."""

NOTICED_OFTEN = {
    "plaintext is answered by a pod": ("mtls", on(POD, source="sample-outside", host="10.42"), "pod helloworld-v1-a"),
    "plaintext gets as far as a policy": ("mtls", on(FORBIDDEN, source="sample-outside"), "plaintext from outside"),
    "an entry is unhealthy": (
        "membership", state(unwell={"lab-vm-3"}),
        "external-app: 3 member(s)", "every VM answers for external-app",
    ),
    "an entry is missing": ("membership", state(swept={"lab-vm-2"}), "external-app: 3 member(s)"),
    "a VM gets no calls": ("membership", on(VM_1, host="external-app"), "every VM answers for external-app"),
    "a call of many fails": (
        "membership", on(UNREACHABLE, 7, 8, host="external-app"), "every VM answers for external-app",
    ),
    "a VM of a shared Service gets no calls": (
        "membership", on(POD, host="helloworld."), "every VM answers for helloworld",
    ),
    "nobody is authenticated": ("mesh-to-vm", state(authenticates=False), "pod → lab-vm-"),
    "no call gets to a VM": ("mesh-to-vm", on(UNREACHABLE, path="/headers"), "pod → lab-vm-"),
    "no pod to reach": ("networks", state(pods={}), "broken off: no pod with app=helloworld runs"),
    "plaintext times out": ("mtls", on(TIMED_OUT, source="sample-outside"), "plaintext from outside is refused"),
    "plaintext is not even connected": ("mtls", on(REJECTED, source="sample-outside"), "plaintext from outside is"),
    "mutual TLS is refused too": ("mtls", on(Reply(503), source="sample/curl"), "a call from the mesh is answered"),
    "who is admitted is refused": ("authorization", on(FORBIDDEN, source="sample/curl"), "account curl is admitted"),
    "an unexposed service does not work at all": (
        "exposure", on(UNREACHABLE, host="helloworld-shift"), "helloworld-shift is not exposed",
    ),
    "an exposed service is not reached": (
        "exposure", on(Reply(503), source="lab-vm-1", host="helloworld.sample"), "helloworld is exposed",
    ),
    "nobody at all reaches a VM": ("egress-guard", on(TIMED_OUT, source="sample-outside"), "no packet passes"),
    "no sidecar gets to the VMs": ("egress-guard", on(Reply(503), source="sample/curl"), "a sidecar is no way around"),
    "all calls fail": ("routing", on(Reply(503), host="external-app"), "vmns/external-app: vm 100"),
    "a VM that fails is not even asked": (
        "resilience", on(VM_1, host="external-app"), "retries hide it", "is ejected", "broken off",
    ),
    "never served again": (
        "resilience", on(VM_1, end=10, host="external-app"), "broken off: not within 120 s: lab-vm-3 served again",
    ),
    "pods only": ("spread", on(POD, end=60, host="helloworld."), "calls spread over pods and VMs"),
    "VMs only": ("spread", on(VM_4, end=60, host="helloworld."), "calls spread over pods and VMs"),
    "a call to either side fails": (
        "spread", on(UNREACHABLE, 3, 4, source="sample/curl", host="helloworld."), "spread over pods and VMs",
    ),
    "an entry stays healthy": ("spread", state(probes=False), "broken off: not within 60 s: lab-vm-4 unhealthy"),
    "the probe finds nothing": (
        "health", state(probes=False), "broken off: not within 60 s: entry-of-lab-vm-3 unhealthy",
    ),
    "a stopped VM gets a call": ("health", on(UNREACHABLE, 30, 31, host="external-app"), "unhealthy → no traffic"),
    "a stopped VM answers": ("health", on(hello("lab-vm-3"), 30, 31, host="external-app"), "unhealthy → no traffic"),
    "a started VM gets no calls": (
        "health", on(VM_1, host="external-app"), "broken off: not within 60 s: lab-vm-3 served again",
    ),
    "a VM returns as another one": ("registration", state(identity_on_return=OTHER), "sidecar started → back as"),
    "a VM returns without an identity": ("registration", state(authenticates=False), "sidecar started → back as"),
    "a VM returns without calls": (
        "registration", on(UNREACHABLE, path="/headers"), "broken off: not within 90 s: lab-vm-1 served again",
    ),
    "a renewed certificate is not shown": (
        "identity", on(UNREACHABLE, path="/headers"),
        "lab-vm-4: identity survives the token", "broken off: not within 60 s: lab-vm-4 served again",
    ),
    "another identity comes back": ("identity", state(identity_on_return=OTHER), "`make rejoin` brings it back"),
}  # fmt: skip
"""The same for what other checks stumble over as well: they call the same services."""


@pytest.mark.parametrize("breakage", NOTICED_ONCE | NOTICED_OFTEN)
def test_a_broken_promise_is_found(world: World, breakage: str) -> None:
    """Each of the findings is there, no other one failed, and the check leaves nothing stopped."""
    name, breaking, *expected = (NOTICED_ONCE | NOTICED_OFTEN)[breakage]
    breaking(world)
    said = failed(run(world, name))
    assert [text for text in expected if not any(text in what for what in said)] == [], said
    assert [what for what in said if not any(text in what for text in expected)] == []
    assert not (world.stopped or world.sidecar_off or world.failing or world.no_token or world.timers)


@pytest.mark.parametrize("breakage", NOTICED_ONCE)
def test_no_other_check_fails(world: World, breakage: str) -> None:
    own, breaking, *_ = NOTICED_ONCE[breakage]
    for name in BY_NAME.keys() - {own}:
        renew(world)
        breaking(world)
        assert failed(run(world, name)) == [], name


def permissive(tables: dict[str, Any]) -> None:
    tables["policies"] |= {"mtls": "PERMISSIVE", "namespaceMtls": {"vmns": "STRICT"}}


def test_where_plaintext_is_permitted_it_has_to_be_answered(world: World) -> None:
    assert failed(run(world, "mtls", permissive)) == [
        "pod helloworld-v1-a (sample: PERMISSIVE): plaintext from outside is accepted",
        "VM lab-vm-4 (sample: PERMISSIVE): plaintext from outside is accepted",
    ]
    on(FORBIDDEN, source="sample-outside")(world)
    assert failed(run(world, "mtls", permissive)) == ["VM lab-vm-1 (vmns: STRICT): plaintext from outside is refused"]


def logs_of_vmns(tables: dict[str, Any]) -> None:
    tables["telemetry"] = {"accessLogs": "namespaces", "namespaces": ["vmns"]}


def test_namespaces_without_access_logs_have_to_be_silent(world: World) -> None:
    assert failed(run(world, "telemetry", logs_of_vmns)) == ["helloworld-v1-a: does not log the request it served"]
    world.logging = lambda instance: instance == "lab-vm-1"
    assert failed(run(world, "telemetry", logs_of_vmns)) == []


def test_a_namespace_that_does_not_answer_is_not_silent(world: World) -> None:
    on(UNREACHABLE, host="helloworld.")(world)
    assert failed(run(world, "telemetry", logs_of_vmns)) == [
        "http://helloworld.sample.svc:5000/hello: does not log the request it served"
    ]


def test_a_setting_that_takes_a_while_to_show_is_waited_for(world: World) -> None:
    world.logging = lambda instance: world.now > 45
    assert failed(run(world, "telemetry")) == []
    assert world.now < 60


@pytest.mark.parametrize(
    ("workload", "guarded"),
    [
        ("sample/helloworld-vm", ["lab-vm-4: no packet passes"]),
        (
            "vmns/external-app",
            [
                *(f"lab-vm-{i}: no packet passes" for i in (1, 2, 3)),
                "http://external-app.vmns.svc:8000/hello: a sidecar is no way around, namespace sample gets through",
            ],
        ),
    ],
)
def test_a_guard_for_some_workloads_is_held_against_those_only(world: World, workload: str, guarded: list[str]) -> None:
    """A Service that has pods too is reached by those, so it says nothing."""

    def guards_one(tables: dict[str, Any]) -> None:
        tables["policies"]["egressGuards"] = [{"namespace": "sample-guarded", "workloads": [workload]}]

    *seen, others = [finding.what for finding in run(world, "egress-guard", guards_one)]
    assert seen == [f"sample-guarded ⇥ {what}" for what in guarded]
    assert others == "sample-guarded → pods: everything else is still reached"


def test_a_guard_may_be_silent(world: World) -> None:
    """It drops packets where it might reject them."""
    world.broken = lambda call: (
        TIMED_OUT if call.source.startswith("sample-guarded/") and "10.42" not in call.host else None
    )
    assert failed(run(world, "egress-guard")) == []


def test_calls_may_fail_until_the_mesh_knows(world: World) -> None:
    both(SLOW, on(UNREACHABLE, 60, 109, host="helloworld."))(world)
    assert failed(run(world, "spread")) == []


def only_external(tables: dict[str, Any]) -> None:
    """Three VMs behind a Service of their own, none beside pods."""
    tables["workloads"] = tables["workloads"][:1]
    tables["traffic"] = tables["traffic"][1:]
    tables["policies"]["authorization"][0]["allow"].remove("sample/helloworld-vm")
    tables["policies"]["authorization"][1]["allow"].remove("sample/helloworld-vm")


def one_vm(tables: dict[str, Any]) -> None:
    """One VM that nobody can stand in for."""
    only_external(tables)
    del tables["workloads"][0]["vms"][1:]


@pytest.mark.parametrize("change", [only_external, one_vm])
@pytest.mark.parametrize("name", BY_NAME)
def test_smaller_meshes_keep_every_promise_too(
    world: World, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    findings = run(world, name, change)
    assert findings
    assert failed(findings) == []


def test_who_is_admitted_follows_the_settings(world: World) -> None:
    def admits_strangers(tables: dict[str, Any]) -> None:
        tables["policies"]["authorization"][1]["allow"] += ["sample/stranger"]

    assert failed(run(world, "authorization", admits_strangers)) == ["vmns/external-app: account stranger is admitted"]


def test_what_is_exposed_follows_the_settings(world: World) -> None:
    def exposes_the_other(tables: dict[str, Any]) -> None:
        tables["mesh"]["exposedServices"] += ["sample/helloworld-shift"]

    assert failed(run(world, "exposure", exposes_the_other)) == [
        "sample/helloworld-shift is exposed: lab-vm-1 reaches it"
    ]


def test_ordinary_names_are_those_of_what_was_downloaded(world: World) -> None:
    def downloads(tables: dict[str, Any]) -> None:
        tables["mesh"]["charts"] = {"repository": "https://charts.example/istio"}

    assert len(failed(run(world, "dns", downloads))) == len(VMS)
    world.names["charts.example"] = ["192.0.2.7"]
    assert failed(run(world, "dns", downloads)) == []


def nothing_asked(tables: dict[str, Any]) -> None:
    tables["policies"] = {}
    tables["traffic"] = []
    tables["telemetry"] = {}
    tables["workloads"] = tables["workloads"][:1]


def elsewhere(tables: dict[str, Any]) -> None:
    """Features of things that have no sample to call or to call from."""
    tables["workloads"] = tables["workloads"][1:]
    tables["traffic"] = tables["traffic"][:1]
    tables["mesh"]["namespaces"] = ["elsewhere"]
    tables["policies"] = {
        "authorization": [{"name": "a", "namespace": "elsewhere", "app": "a", "allow": ["sample/curl"]}],
        "egressGuards": [{"namespace": "elsewhere"}],
    }


@pytest.mark.parametrize(
    ("change", "name", "missing"),
    [
        (nothing_asked, "authorization", "policies.authorization"),
        (nothing_asked, "egress-guard", "policies.egressGuards"),
        (nothing_asked, "telemetry", "telemetry.accessLogs"),
        (nothing_asked, "routing", "traffic[].routes"),
        (nothing_asked, "resilience", "traffic[] with retries and outliers for two VMs or more"),
        (one_vm, "resilience", "traffic[] with retries and outliers for two VMs or more"),
        (nothing_asked, "spread", "a workload in the samples' namespace with app: helloworld"),
        (nothing_asked, "identity", "workloads[].certificateSeconds of at most 240"),
        (elsewhere, "authorization", "a sample application to call"),
        (elsewhere, "egress-guard", "a client of the samples in that namespace"),
        (elsewhere, "exposure", "a workload in an Istio network of its own"),
    ],
)
def test_what_cannot_be_shown_is_said(
    world: World, change: Callable[[dict[str, Any]], None], name: str, missing: str
) -> None:
    findings = run(world, name, change)
    assert failed(findings) == []
    (said,) = (finding for finding in findings if finding.verdict is Verdict.NOT_ASKED)
    assert said.evidence == f"{missing} is not set"


@pytest.mark.parametrize("name", DISTURBING)
def test_wherever_a_check_breaks_off_the_vms_are_put_right(world: World, name: str) -> None:
    """By the check itself, or by the timer on a VM that it cannot reach any more."""
    run(world, name)
    ends = world.steps
    assert ends > 10
    for step in range(1, ends + 1):
        renew(world, breaks_off_at=step)
        run(world, name)
        for vm, undo in list(world.timers.items()):
            FakeVm(world, vm).run(f"{undo}; systemctl stop istio-vms-verify.timer")
        assert world.left_alone(), f"step {step} of {ends}"
