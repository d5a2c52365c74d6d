"""Auto-registration: the WorkloadEntry comes and goes with the sidecar."""

from __future__ import annotations

from collections.abc import Iterator

from actions.samples.proof import identities
from actions.workloads.on_vm import UNIT
from verify.checks.health import healthy
from verify.checks.membership import headers_told
from verify.disturb import disturbed
from verify.environment import Environment, Member
from verify.finding import Finding, found
from verify.waiting import until

GONE_SECONDS = 90
"""istiod's grace period of 10 s, and its sweep."""
BACK_SECONDS = 90


def run(env: Environment) -> Iterator[Finding]:
    """Stop one VM's sidecar, see its entry go; start it, see the same entry and the same identity return."""
    group = env.largest_group()
    member = group[0]
    before = env.entry(member)
    identity = _identity(env, member)
    with disturbed(member, f"systemctl stop {UNIT}", f"systemctl start {UNIT}"):
        took = until(f"WorkloadEntry {member.entry} gone", lambda: env.entry(member) is None, GONE_SECONDS)
        yield found(
            f"{member.name}: sidecar stopped → WorkloadEntry gone",
            f"systemctl stop {UNIT}; the entry {member.entry}",
            f"gone after {took:.1f} s",
            before is not None,
        )
    took = until(f"{member.entry} back and healthy", lambda: healthy(env, member), BACK_SECONDS)
    until(f"{member.name} served again", lambda: bool(headers_told(env, member)), BACK_SECONDS)
    now = _identity(env, member)
    yield found(
        f"{member.name}: sidecar started → back as the same",
        "the entry of that name, connected and healthy; the identity in a call's X-Forwarded-Client-Cert",
        f"{member.entry} healthy after {took:.1f} s as {now or 'nobody'}",
        bool(now) and now == identity,
    )


def _identity(env: Environment, member: Member) -> str | None:
    return identities(headers_told(env, member).get("x-forwarded-client-cert", ""))[0]
