"""VirtualServices and DestinationRules: shares, header-based routes, retries, outlier detection."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

from actions.samples.application import FAULT_FILE
from components.settings import TrafficSettings
from verify.calls import tally
from verify.disturb import disturbed
from verify.environment import HELLO_PORT, SIDECAR, Environment, Member
from verify.finding import Finding, found, not_asked
from verify.waiting import until

CALLS = 300
EXACT_CALLS = 60
"""Enough where every share is 0 or 100."""
SIGMAS = 3.9
"""A right share is taken for a wrong one once in 10,000 times."""
FAULT_CALLS = 60
PER_SECOND = 20


def routing(env: Environment) -> Iterator[Finding]:
    """The share of each version in a series of calls, for every route."""
    if not any(traffic.routes for traffic in env.settings.traffic):
        yield not_asked("shares between versions", "traffic[].routes")
    for traffic in env.settings.traffic:
        for route in traffic.routes:
            count = EXACT_CALLS if set(route.shares.values()) <= {0, 100} else CALLS
            seen = env.client().call(_url(env, traffic), count=count, headers=route.headers)
            versions = Counter(answer.version if answer.ok else str(answer) for answer in seen)
            asked = ", ".join(
                f"{version} {share} % ± {_tolerance(share):.0f}" for version, share in route.shares.items()
            )
            given = " ".join(f"{name}: {value}" for name, value in route.headers.items())
            yield found(
                f"{traffic.namespace}/{traffic.service}{f' with {given}' if given else ''}: {asked}",
                f"{count} calls of {_url(env, traffic)} from a pod",
                ", ".join(f"{name} {number / count:.1%}" for name, number in sorted(versions.items())),
                _as_asked(versions, count, route.shares),
            )


def _tolerance(share: int) -> float:
    """Percent that a measured share may be off; 0 where the share is 0 or 100."""
    p = share / 100
    return 100 * SIGMAS * math.sqrt(p * (1 - p) / CALLS)


def _as_asked(versions: Mapping[str, int], count: int, shares: Mapping[str, int]) -> bool:
    right = (abs(100 * versions.get(v, 0) / count - share) <= _tolerance(share) for v, share in shares.items())
    return all(right) and set(versions) <= set(shares)


def _url(env: Environment, traffic: TrafficSettings) -> str:
    ports = (m.port for m in env.members if (m.workload.namespace, m.workload.service) == _key(traffic))
    port = traffic.port.port if traffic.port else next(ports, HELLO_PORT)
    return f"http://{traffic.service}.{traffic.namespace}.svc:{port}/hello"


def _key(traffic: TrafficSettings) -> tuple[str, str]:
    return traffic.namespace, traffic.app or traffic.service


def resilience(env: Environment) -> Iterator[Finding]:
    """One of several VMs answers 503: retries hide it, and after a few errors it is left out for a while."""
    wanted = [traffic for traffic in env.settings.traffic if traffic.retries and traffic.outliers]
    shown = False
    for traffic in wanted:
        for version in traffic.outliers:
            members = [
                m
                for m in env.members
                if (m.workload.namespace, m.workload.service) == _key(traffic) and m.workload.version == version
            ]
            if len(members) > 1:
                shown = True
                yield from _resilient(env, traffic, version, members)
    if not shown:
        yield not_asked("retries and outlier detection", "traffic[] with retries and outliers for two VMs or more")


def _resilient(env: Environment, traffic: TrafficSettings, version: str, members: list[Member]) -> Iterator[Finding]:
    url, client, member = _url(env, traffic), env.client(), members[-1]
    endpoint = _Endpoint(env, traffic, version, member)
    limit = traffic.outliers[version]
    with _failing(member):
        own = member.vm.run(f"curl -sS -m 5 -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{member.port}/hello")
        before = endpoint.errors
        seen = client.call(url, count=FAULT_CALLS, per_second=PER_SECOND)
        errors, ejected = endpoint.errors - before, endpoint.ejected
        yield found(
            f"{member.name} answers {own}: retries hide it",
            f"{FAULT_CALLS} calls of {url} from a pod; Envoy's rq_error of the VM there",
            f"{tally(seen)}; {errors} errors of {member.name} hidden",
            own == "503" and errors > 0 and all(answer.ok and answer.instance != member.name for answer in seen),
        )
        yield found(
            f"{member.name} is ejected after {limit.consecutive_errors} errors",
            f"the same calls, a share of about {FAULT_CALLS // len(members)}; Envoy's health_flags of the VM",
            f"{errors} of them reached {member.name}; it is {'' if ejected else 'not '}ejected",
            ejected and errors <= limit.consecutive_errors + 1,
        )
    took = until(
        f"{member.name} served again",
        lambda: any(answer.instance == member.name for answer in client.call(url, count=10)),
        12 * limit.ejection_seconds,
    )
    yield found(f"{member.name} is well again: it gets its share back", f"calls of {url}", f"after {took:.1f} s", True)


def _failing(member: Member) -> AbstractContextManager[None]:
    """The VM's application answers 503 within the block, and is healthy to its probe all along."""
    folder = FAULT_FILE.rpartition("/")[0]
    return disturbed(member, f"mkdir -p {folder} && touch {FAULT_FILE}", f"rm -f {FAULT_FILE}")


class _Endpoint:
    """What a client's Envoy knows of one VM in a subset, from the admin interface's `/clusters`."""

    def __init__(self, env: Environment, traffic: TrafficSettings, version: str, member: Member) -> None:
        self._env = env
        port = _url(env, traffic).rpartition(":")[2].partition("/")[0]
        cluster = f"outbound|{port}|{version}|{traffic.service}.{traffic.namespace}.svc.cluster.local"
        self._line = re.compile(rf"^{re.escape(cluster)}::{re.escape(member.address)}:\d+::(\w+)::(.*)$", re.MULTILINE)

    @property
    def errors(self) -> int:
        """How many calls of the VM ended with an error."""
        return int(self._read().get("rq_error", 0))

    @property
    def ejected(self) -> bool:
        """Whether outlier detection leaves the VM out now."""
        return "failed_outlier_check" in self._read().get("health_flags", "")

    def _read(self) -> dict[str, str]:
        client = self._env.client()
        words = ["pilot-agent", "request", "GET", "clusters"]
        printed = self._env.cluster.run(client.namespace, client.pod, SIDECAR, words, 15).stdout
        return dict(self._line.findall(printed))
