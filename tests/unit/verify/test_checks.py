"""Every check holds in a mesh that is well, and fails when its subject is broken."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from components.command_line import Failure
from tests.unit.verify.world import FORBIDDEN, RESET, TIMED_OUT, Call, Reply, World, read_certificate
from verify.checks import CHECKS, identity
from verify.finding import Finding, Verdict

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
BY_NAME = {check.name: check for check in CHECKS}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    def sleep(seconds: float) -> None:
        made.now += max(seconds, 0.01)

    def rejoin(command: list[str], **options: Any) -> SimpleNamespace:
        assert command[1:] == ["-m", "ops", "rejoin"]
        name = f"{options['env']['STACK']}-{options['env']['VM']}"
        made.rejoined.append(name)
        made.not_connected.discard(name)
        made.no_token.discard(name)
        made.sidecar_off.pop(name, None)
        made.renewed_at, made.serial = made.now, made.serial + 1
        return SimpleNamespace(returncode=0, stdout=f"{name} is a healthy member", stderr="")

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return EPOCH + timedelta(seconds=made.now)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(subprocess, "run", rejoin)
    monkeypatch.setattr(identity, "datetime", Clock)
    monkeypatch.setattr(identity.certificate, "read", read_certificate(made, EPOCH))
    monkeypatch.setattr(identity.certificate, "flaw", lambda vm, spiffe_id: None)
    return made


def run(world: World, name: str, change: Callable[[dict[str, Any]], Any] = lambda tables: None) -> list[Finding]:
    return list(BY_NAME[name].run(world.environment(change)))


def failed(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.verdict is Verdict.FAILS]


def is_left_alone(world: World) -> bool:
    return not (world.stopped or world.sidecar_off or world.failing or world.no_token or world.not_connected)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_mesh_that_is_well_keeps_every_promise(world: World, name: str) -> None:
    findings = run(world, name)
    assert findings
    assert {finding.verdict for finding in findings} == {Verdict.HOLDS}, [
        (f.what, f.evidence) for f in findings if f.verdict is not Verdict.HOLDS
    ]
    assert is_left_alone(world)


def on(reply: Reply, **wanted: str) -> Callable[[World], None]:
    """Breaks calls: those whose source, host and path begin like this get the reply."""

    def matches(call: Call) -> bool:
        return all(getattr(call, field).startswith(text) for field, text in wanted.items())

    def breaking(world: World) -> None:
        world.broken = lambda call: reply if matches(call) else None

    return breaking


def state(**fields: Any) -> Callable[[World], None]:
    def breaking(world: World) -> None:
        for field, value in fields.items():
            setattr(world, field, value)

    return breaking


HELLO = Reply(200, "Hello version: v1, instance: helloworld-v1-a\n")
PLAIN = Reply(200, "{}\n", "lab-vm-1")
OTHERS = Reply(
    200, '{"x-forwarded-client-cert": "By=spiffe://c/ns/vmns/sa/external-app;URI=spiffe://c/ns/a/sa/b"}', "lab-vm-1"
)

BREAKAGES = [
    ("membership", state(not_connected={"lab-vm-2"}), "vmns/external-app: 3 member(s)"),
    ("membership", on(Reply(503), source="sample/curl", host="external-app"), "every VM answers for external-app"),
    ("membership", state(stopped={"lab-vm-3"}), "every VM answers for external-app"),
    ("dns", state(names={"helloworld.sample.svc": ["10.43.9.9"]}), "names of the mesh"),
    ("dns", state(names={"lab-agent-1": []}), "ordinary names still resolve"),
    ("dns", state(names={"lab-agent-1": ["10.0.0.1"]}), "ordinary names still resolve"),
    ("dns", state(names={"nowhere.sample.svc": ["10.0.0.1"]}), "wrong ones do not"),
    ("vm-to-mesh", on(HELLO, source="lab-vm-2"), "lab-vm-2 → helloworld"),
    ("vm-to-mesh", on(Reply(503), source="lab-vm-4"), "lab-vm-4 → helloworld"),
    ("mesh-to-vm", on(PLAIN, path="/headers"), "pod → lab-vm-1"),
    ("mesh-to-vm", on(OTHERS, path="/headers"), "pod → lab-vm-1"),
    ("networks", on(RESET, source="uncaptured/lab-vm-1"), "lab-vm-1 (multi-network): no way to pod addresses"),
    ("networks", on(TIMED_OUT, source="uncaptured/lab-vm-4"), "lab-vm-4 (single-network): a way to pod addresses"),
    ("networks", state(endpoints={"lab-vm-1": ["10.42.0.4:5000"]}), "lab-vm-1 (multi-network): helloworld is reached"),
    ("networks", state(endpoints={"lab-vm-4": ["10.89.0.11:15443"]}), "lab-vm-4 (single-network): helloworld is"),
    ("networks", state(endpoints={"lab-vm-2": []}), "lab-vm-2 (multi-network): helloworld is reached"),
    ("gateway", state(hosts={"lab-vm-2": "10.89.0.99"}), "lab-vm-2 is connected to the gateway"),
    ("mtls", on(Reply(200, "hi"), source="sample-outside"), "plaintext from outside is refused"),
    ("mtls", on(FORBIDDEN, source="sample-outside"), "plaintext from outside is refused"),
    ("mtls", on(TIMED_OUT, source="sample-outside"), "plaintext from outside is refused"),
    ("mtls", on(Reply(503), source="sample/curl"), "a call from the mesh is answered"),
    ("authorization", on(HELLO, source="sample/stranger"), "account stranger is refused"),
    ("authorization", on(Reply(503), source="sample/stranger"), "account stranger is refused"),
    ("authorization", on(FORBIDDEN, source="sample/curl"), "account curl is admitted"),
    ("exposure", on(HELLO, source="lab-vm-1", host="helloworld-shift"), "helloworld-shift is not exposed"),
    ("exposure", on(Reply(503), source="sample/curl"), "helloworld is exposed"),
    ("exposure", on(Reply(503), source="lab-vm-1", host="helloworld.sample"), "helloworld is exposed"),
    ("egress-guard", on(RESET, source="sample-guarded/plain", host="10.89"), "no packet passes"),
    ("egress-guard", on(TIMED_OUT, source="sample-outside"), "no packet passes"),
    ("egress-guard", on(HELLO, source="sample-guarded/curl"), "a sidecar is no way around"),
    ("egress-guard", on(Reply(503), source="sample/curl"), "a sidecar is no way around"),
    ("egress-guard", on(TIMED_OUT, source="sample-guarded/plain", host="10.42"), "everything else is still reached"),
    ("telemetry", state(logs_lines=False), "logs the request it served"),
    ("routing", on(HELLO, host="helloworld-shift"), "helloworld-shift with x-version: vm"),
    ("routing", on(Reply(503), host="external-app"), "vmns/external-app"),
    ("resilience", state(retries=False), "retries hide it"),
    ("resilience", state(ejects=False), "is ejected after 3 errors"),
    ("spread", on(HELLO, host="helloworld."), "calls spread over pods and VMs"),
    ("spread", on(Reply(503), host="helloworld."), "the others serve"),
    ("health", on(Reply(200, "Hello version: vm, instance: lab-vm-1\n"), host="external-app"), None),
    ("identity", state(renews=False), None),
    ("identity", state(lapses=False), "without a valid certificate or token it is no member"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "breaking", "finding"), BREAKAGES)
def test_a_broken_promise_is_found(
    world: World, name: str, breaking: Callable[[World], None], finding: str | None
) -> None:
    """With None the check cannot be carried through: what it waits for never comes."""
    breaking(world)
    if finding is None:
        with pytest.raises(Failure, match="not within"):
            run(world, name)
    else:
        said = failed(run(world, name))
        assert any(finding in what for what in said), said


@pytest.mark.parametrize(("name", "breaking"), [("health", state(probes=False)), ("registration", state(sweeps=False))])
def test_what_was_stopped_is_started_again_when_the_check_fails(
    world: World, name: str, breaking: Callable[[World], None]
) -> None:
    breaking(world)
    with pytest.raises(Failure, match="not within"):
        run(world, name)
    assert is_left_alone(world)
    assert any("stop" in script for _, script in world.scripts)


def test_whatever_is_disturbed_has_a_timer_that_puts_it_right(world: World) -> None:
    for name in ("health", "registration", "resilience"):
        world.scripts.clear()
        run(world, name)
        first = next(script for _, script in world.scripts if "systemd-run" in script)
        timer, undo = first.split("; ")[1], world.scripts
        assert "--on-active=300 bash -c " in timer
        restored = timer.partition("bash -c ")[2].strip("'")
        assert any(script.startswith(restored) for _, script in undo), restored


def test_identity_rejoins_even_if_the_vm_never_lapses(world: World) -> None:
    world.lapses = False
    run(world, "identity")
    assert world.rejoined == ["lab-vm-4"]


def permissive(tables: dict[str, Any]) -> None:
    tables["policies"] |= {"mtls": "PERMISSIVE", "namespaceMtls": {"vmns": "STRICT"}}


def test_where_plaintext_is_permitted_it_has_to_be_answered(world: World) -> None:
    assert "accepted" in failed(run(world, "mtls", permissive))[0]
    world.broken = lambda call: HELLO if call.source.startswith("sample-outside") else None
    said = failed(run(world, "mtls", permissive))
    assert [what for what in said if "vmns: STRICT" in what] == said
    assert said


def only_vmns(tables: dict[str, Any]) -> None:
    tables["telemetry"] = {"accessLogs": "namespaces", "namespaces": ["vmns"]}


def test_namespaces_without_access_logs_have_to_be_silent(world: World) -> None:
    said = failed(run(world, "telemetry", only_vmns))
    assert said
    assert all("does not log" in what for what in said)


def nothing_asked(tables: dict[str, Any]) -> None:
    tables["policies"] = {}
    tables["traffic"] = []
    tables["telemetry"] = {}
    tables["workloads"] = tables["workloads"][:1]


@pytest.mark.parametrize(
    "name", ["authorization", "egress-guard", "telemetry", "routing", "resilience", "spread", "identity"]
)
def test_what_the_settings_do_not_ask_for_is_said(world: World, name: str) -> None:
    verdicts = [finding.verdict for finding in run(world, name, nothing_asked)]
    assert Verdict.NOT_ASKED in verdicts
    assert Verdict.FAILS not in verdicts


def test_a_share_outside_of_its_tolerance_is_found(world: World) -> None:
    world.broken = lambda call: (
        Reply(200, "Hello version: vm, instance: lab-vm-4\n", "lab-vm-4")
        if call.host.startswith("helloworld-shift") and call.number % 5 == 0
        else None
    )
    assert any("v1 90 % ± 7" in what for what in failed(run(world, "routing")))
