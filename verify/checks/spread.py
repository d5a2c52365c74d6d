"""A Service over pods and VMs: both serve, and when one side goes the other one does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from actions.kube import is_ready
from verify.calls import Answer, tally
from verify.checks.health import SECONDS, application_stopped, healthy
from verify.checks.membership import CALLS
from verify.environment import Environment, Member
from verify.finding import Finding, found, not_asked
from verify.waiting import until

PER_SECOND = 20
CALLS_UNDER_LOAD = 200
"""10 s, at whose beginning one side goes."""
SETTLING_SECONDS = 1.0
"""From the cluster's knowing to every sidecar's."""


def run(env: Environment) -> Iterator[Finding]:
    """Spread, then the VM's side gone under load, then the pods' side."""
    mixed = [member for member in env.members if member.workload.service == "helloworld"]
    mixed = [member for member in mixed if member.workload.namespace == env.samples]
    if not mixed:
        yield not_asked("one Service over pods and VMs", "a workload in the samples' namespace with app: helloworld")
        return
    yield _both(env, mixed)
    yield from _without_vm(env, mixed[0])
    yield from _without_pods(env)


def _both(env: Environment, mixed: list[Member]) -> Finding:
    names = {member.name for member in mixed}
    seen = env.client().call(env.hello, count=CALLS * 2)
    vms = [answer for answer in seen if answer.instance in names]
    pods = [answer for answer in seen if answer.ok and answer.instance not in names]
    return found(
        "helloworld: calls spread over pods and VMs",
        f"{len(seen)} calls of {env.hello} from a pod",
        tally(seen),
        bool(vms and pods) and all(answer.ok for answer in seen),
    )


def _without_vm(env: Environment, member: Member) -> Iterator[Finding]:
    with _load(env) as load, application_stopped(member):
        known = load.since(f"{member.name} unhealthy", lambda: not healthy(env, member))
        yield _lost(f"{member.name}'s application stopped", "its entry was unhealthy", known, load.calls())
    until(f"{member.name} healthy", lambda: healthy(env, member), SECONDS)


def _without_pods(env: Environment) -> Iterator[Finding]:
    pods = [str(pod["metadata"]["name"]) for pod in env.pods(env.samples, "app=helloworld")]
    paths = [f"/api/v1/namespaces/{env.samples}/pods/{name}" for name in pods]
    with _load(env) as load:
        for path in paths:
            env.cluster.delete(path)
        known = load.since("the pods gone", lambda: not any(env.cluster.get(path) for path in paths))
        yield _lost(f"{' and '.join(pods)} deleted", "they were gone", known, load.calls())
    until("helloworld's pods ready again", lambda: _ready(env) >= len(pods), SECONDS)


def _lost(what: str, known_how: str, known: float, seen: list[Answer]) -> Finding:
    """Whoever goes may fail the calls it has until the mesh knows; no call fails afterwards, and most are answered throughout."""
    failed = [number / PER_SECOND for number, answer in enumerate(seen) if not answer.ok]
    last = max(failed, default=0.0)
    return found(
        f"helloworld: {what}, the others serve",
        f"{len(seen)} calls, {PER_SECOND} a second, while it happens",
        f"{tally(seen)}; {known_how} after {known:.1f} s, "
        + (f"the last of {len(failed)} calls that failed was at {last:.1f} s" if failed else "no call failed"),
        last <= known + SETTLING_SECONDS and len(failed) < len(seen) / 4,
    )


class _Load:
    """Calls of helloworld at an even pace, beside what goes on."""

    def __init__(self, env: Environment, pool: ThreadPoolExecutor) -> None:
        self._begun = time.monotonic()
        self._calls = pool.submit(env.client().call, env.hello, count=CALLS_UNDER_LOAD, per_second=PER_SECOND)

    def since(self, what: str, there: Callable[[], bool]) -> float:
        """Seconds from the first call until it is there."""
        until(what, there, SECONDS)
        return time.monotonic() - self._begun

    def calls(self) -> list[Answer]:
        """All calls, once the last one has ended."""
        return self._calls.result()


@contextmanager
def _load(env: Environment) -> Iterator[_Load]:
    with ThreadPoolExecutor(1) as pool:
        yield _Load(env, pool)


def _ready(env: Environment) -> int:
    return sum(map(is_ready, env.pods(env.samples, "app=helloworld")))
