"""The life of a member's token and certificate."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from actions.protocol import Failure
from actions.workloads import certificate
from actions.workloads.certificate import Certificate
from actions.workloads.files import TOKEN
from actions.workloads.on_vm import UNIT
from verify.checks.health import healthy
from verify.checks.membership import headers_told
from verify.disturb import disturbed
from verify.environment import Environment, Member
from verify.finding import Finding, found, not_asked
from verify.waiting import until

SHORT_SECONDS = 240
"""Lives up to this one are waited for: they end before a disturbed VM puts itself right."""
ALONE_SECONDS = 8
"""How long a sidecar with neither certificate nor token is watched not to come back by itself."""


def run(env: Environment) -> Iterator[Finding]:
    """Every VM's certificate; then, where lives are short, one without its token, and one that was off for too long."""
    for member in env.members:
        yield _valid(member)
    short = [member for member in env.members if member.workload.certificate_seconds <= SHORT_SECONDS]
    if not short:
        yield not_asked("renewal and expiry", f"workloads[].certificateSeconds of at most {SHORT_SECONDS}")
        return
    member = min(short, key=lambda member: member.workload.certificate_seconds)
    yield _renewed_without_token(env, member)
    yield from _off_for_too_long(env, member)


def _read(member: Member) -> Certificate:
    seen = certificate.read(member.vm)
    if seen is None:
        raise Failure(f"{member.name} has no certificate")
    return seen


def _valid(member: Member) -> Finding:
    workload, seen = member.workload, certificate.read(member.vm)
    flaw = certificate.flaw(member.vm, member.spiffe_id)
    return found(
        f"{member.name} has a valid certificate of {workload.namespace}/{workload.service_account}",
        "/etc/certs/cert-chain.pem on the VM, by its own clock",
        f"{seen.spiffe_id} until {seen.not_after:%F %T}Z" + (f": {flaw}" if flaw else "") if seen else "no certificate",
        bool(seen and not flaw),
    )


def _renewed_without_token(env: Environment, member: Member) -> Finding:
    """A token that is gone is as good as one that has expired: istiod gets to see neither."""
    back = f"[ -e {TOKEN} ] || mv {TOKEN}.aside {TOKEN}; rm -f {TOKEN}.aside"
    with disturbed(member, f"mv {TOKEN} {TOKEN}.aside", back):
        before = _read(member)
        life = member.workload.certificate_seconds
        took = until("another certificate", lambda: _read(member).serial != before.serial, life + 30, pause=1)
        after = _read(member)
        served = headers_told(env, member)
    return found(
        f"{member.name}: identity survives the token",
        f"token taken away, a certificate of {life} s awaited, then a call",
        f"renewed after {took:.0f} s, valid until {after.not_after:%T}Z, {after.spiffe_id}; call {'answered' if served else 'failed'}",
        after.spiffe_id == before.spiffe_id and bool(served),
    )


def _off_for_too_long(env: Environment, member: Member) -> Iterator[Finding]:
    """The sidecar is off until its certificate has expired, and the token is lost: one command brings it back."""
    boot = _boot(member)
    try:
        with disturbed(member, f"systemctl stop {UNIT} && rm -f {TOKEN}", f"systemctl start {UNIT}"):
            last = _read(member)
            rest = (last.not_after - datetime.now(UTC)).total_seconds()
            time.sleep(max(0.0, rest) + 2)
        time.sleep(ALONE_SECONDS)
        back = healthy(env, member)
        yield found(
            f"{member.name}: without a valid certificate or token it is no member",
            f"sidecar off until {last.not_after:%T}Z, token removed, sidecar started, {ALONE_SECONDS} s watched",
            f"WorkloadEntry {'connected' if back else 'not connected'}",
            not back,
        )
    finally:
        took, said = _rejoin(env, member)
    until(f"{member.name} served again", lambda: bool(headers_told(env, member)), 60)
    after, now = env.entry(member), _read(member)
    yield found(
        f"{member.name}: `make rejoin` brings it back, the same machine",
        f"make rejoin VM={member.settings.name}; boot id, entry and identity before and after",
        f"member again after {took:.1f} s: {after.name if after else said}, {now.spiffe_id}",
        bool(after and after.connected_at) and now.spiffe_id == last.spiffe_id and _boot(member) == boot,
    )


def _boot(member: Member) -> str:
    return member.vm.run("cat /proc/sys/kernel/random/boot_id").strip()


def _rejoin(env: Environment, member: Member) -> tuple[float, str]:
    """What `make rejoin` does; the seconds it took and its last line."""
    started = time.monotonic()
    words = ["rejoin", member.settings.name, "--stack", env.stack]
    ran = subprocess.run([sys.executable, "-m", "commands", *words], capture_output=True, text=True, check=False)
    said = (ran.stdout + ran.stderr).strip().rpartition("\n")[2]
    if ran.returncode:
        raise Failure(f"make rejoin VM={member.settings.name} failed: {said}")
    return time.monotonic() - started, said
