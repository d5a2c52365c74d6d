"""Workloads and their VMs, and the calls between VMs and pods."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from actions.samples.proof import identities
from verify.calls import tally
from verify.environment import Environment, Member
from verify.finding import Finding, found

CALLS = 30
"""So many that one of three endpoints of the same weight is missed about once in 190,000 times."""
STREAMS, CALLS_EACH = 24, 3
"""The same for connections."""


def run(env: Environment) -> Iterator[Finding]:
    """Each VM's WorkloadEntry is connected and healthy, and a pod's calls of the workload's Service reach each of its VMs."""
    for group in env.groups():
        workload = group[0].workload
        entries = {member.name: env.entry(member) for member in group}
        good = [name for name, entry in entries.items() if entry and entry.connected_at and entry.healthy]
        yield found(
            f"{workload.namespace}/{workload.name}: {len(group)} member(s)",
            "WorkloadEntries: connected to istiod, Healthy",
            ", ".join(good) + "".join(f"; not {name}" for name in entries if name not in good),
            len(good) == len(group),
        )
        seen = env.client().call(f"{group[0].url}/hello", count=CALLS * len(group))
        reached = {answer.instance for answer in seen if answer.ok}
        yield found(
            f"{workload.namespace}/{workload.name}: every VM answers for {workload.service}",
            f"{len(seen)} calls of {group[0].url}/hello from a pod",
            tally(seen),
            {member.name for member in group} <= reached and all(answer.ok for answer in seen),
        )


def vm_to_mesh(env: Environment) -> Iterator[Finding]:
    """From each VM, repeated calls of helloworld reach every version of its pods."""
    wanted = set(env.settings.samples.helloworld_images)
    for member in env.members:
        seen = member.caller.call_side_by_side(env.hello, streams=STREAMS, count=CALLS_EACH)
        versions = Counter(answer.version for answer in seen if answer.ok)
        yield found(
            f"{member.name} → helloworld: versions {', '.join(sorted(wanted))}",
            f"{STREAMS} curls at once, {CALLS_EACH} calls of {env.hello} each",
            ", ".join(f"{count}x {version}" for version, count in sorted(versions.items())) or tally(seen),
            wanted <= set(versions) and all(answer.ok for answer in seen),
        )


def mesh_to_vm(env: Environment) -> Iterator[Finding]:
    """A pod calls each VM by its Service's name; the VM's application is told both identities by its sidecar."""
    client = f"/ns/{env.samples}/sa/curl"
    for member in env.members:
        server = f"/ns/{member.workload.namespace}/sa/{member.workload.service_account}"
        told = headers_told(env, member)
        by, uri = identities(told.get("x-forwarded-client-cert", ""))
        yield found(
            f"pod → {member.name}: the caller is authenticated",
            f"{member.url}/headers: X-Forwarded-Client-Cert as the application sees it",
            f"{uri} called {by}" if uri else "answered, but nobody was authenticated" if told else "no answer",
            bool(uri and by and uri.endswith(client) and by.endswith(server)),
        )


def headers_told(env: Environment, member: Member) -> dict[str, str]:
    """The headers of a call from a pod as this VM's application saw them; empty when no call reached it."""
    for answer in env.client().call(f"{member.url}/headers", count=CALLS):
        if answer.ok and answer.instance == member.name:
            return json.loads(answer.body)
    return {}
