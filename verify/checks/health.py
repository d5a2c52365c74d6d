"""The readiness probe: what happens to traffic when a VM's application stops and starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from actions.samples.application import APPLICATION_UNIT
from verify.calls import tally
from verify.disturb import disturbed
from verify.environment import Environment, Member
from verify.finding import Finding, found
from verify.waiting import until

CALLS = 40
SECONDS = 60


def application_stopped(member: Member) -> AbstractContextManager[None]:
    """The VM's application is down within the block."""
    return disturbed(member, f"systemctl stop {APPLICATION_UNIT}", f"systemctl start {APPLICATION_UNIT}")


def healthy(env: Environment, member: Member) -> bool:
    """Whether the member's entry says so."""
    entry = env.entry(member)
    return bool(entry and entry.healthy and entry.connected_at)


def run(env: Environment) -> Iterator[Finding]:
    """Stop one VM's application, see its entry go unhealthy and calls stay away, start it, see both return."""
    group = env.largest_group()
    member, url = group[-1], f"{group[-1].url}/hello"
    with application_stopped(member):
        took = until(f"{member.entry} unhealthy", lambda: not healthy(env, member), SECONDS)
        entry = env.entry(member)
        yield found(
            f"{member.name}: application stopped → unhealthy",
            "systemctl stop on the VM; condition Healthy of its WorkloadEntry",
            f"unhealthy after {took:.1f} s: {entry.message if entry else 'no entry'}",
            entry is not None,
        )
        # A call that still goes to a VM whose application is down ends with an error: no instance answers it.
        alone = len(group) == 1
        until(f"callers know of {member.name}", lambda: alone or _all_answered(env, url, 3 * len(group)), SECONDS)
        seen = env.client().call(url, count=CALLS)
        away = all(answer.instance != member.name for answer in seen)
        yield found(
            f"{member.name}: unhealthy → no traffic",
            f"{CALLS} calls of {url} from a pod",
            tally(seen),
            away and (alone or all(answer.ok for answer in seen)),
        )
    took = until(f"{member.entry} healthy", lambda: healthy(env, member), SECONDS)
    served = until(f"{member.name} served again", lambda: _reached(env, member, url, 10), SECONDS)
    yield found(
        f"{member.name}: application started → served again",
        "systemctl start on the VM; its WorkloadEntry; calls from a pod",
        f"healthy after {took:.1f} s, served {served:.1f} s later",
        True,
    )


def _all_answered(env: Environment, url: str, count: int) -> bool:
    return all(answer.ok for answer in env.client().call(url, count=count))


def _reached(env: Environment, member: Member, url: str, count: int) -> bool:
    return any(answer.instance == member.name for answer in env.client().call(url, count=count))
