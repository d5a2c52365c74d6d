"""Multi-network and single-network VMs: which way their packets to pods take."""

from __future__ import annotations

import re
from collections.abc import Iterator

from verify.calls import REFUSED, TIMED_OUT, Answer
from verify.environment import HELLO_PORT, Environment, Member
from verify.finding import Finding, found

_NO_WAY = (REFUSED, TIMED_OUT)
_ADMIN = "http://127.0.0.1:15000"
SECONDS = 3


def run(env: Environment) -> Iterator[Finding]:
    """Past its sidecar a VM reaches a pod's address or not; its sidecar's endpoints for helloworld are pods or the gateway."""
    pod = str(env.pod(env.samples, "app=helloworld")["status"]["podIP"])
    pods = {str(pod["status"]["podIP"]) for pod in env.pods(env.samples, "app=helloworld")}
    for member in env.members:
        direct = env.single_network(member)
        answer = member.uncaptured.call(f"http://{pod}:{HELLO_PORT}/hello", seconds=SECONDS)[0]
        yield found(
            f"{member.name} ({_mode(direct)}): {'a' if direct else 'no'} way to pod addresses",
            f"TCP to pod {pod}:{HELLO_PORT}, past the sidecar",
            f"connected; then {answer}" if answer.connected else str(answer),
            answer.connected if direct else _no_way(answer),
        )
        endpoints = _endpoints(env, member)
        ours = {str(address) for address in env.outputs["gateways"]["eastWest"]["addresses"]}
        port = env.outputs["gateways"]["eastWest"]["ports"]["tls"]
        expected = {f"{address}:{HELLO_PORT}" for address in pods} if direct else {f"{a}:{port}" for a in ours}
        others = {f"{m.address}:{HELLO_PORT}" for m in env.members if m.workload.service == "helloworld"}
        yield found(
            f"{member.name} ({_mode(direct)}): helloworld is reached {'at its pods' if direct else 'through the gateway'}",
            "the sidecar's own endpoints for helloworld",
            ", ".join(sorted(endpoints)) or "none",
            endpoints <= expected | (others if direct else set()) and bool(endpoints & expected),
        )


def _mode(direct: bool) -> str:
    return "single-network" if direct else "multi-network"


def _no_way(answer: Answer) -> bool:
    return not answer.connected and answer.exit_code in _NO_WAY


def _endpoints(env: Environment, member: Member) -> set[str]:
    """`address:port` of helloworld's endpoints in the sidecar's configuration, from Envoy's admin interface."""
    listed = member.vm.run(f"curl -sS -m 5 {_ADMIN}/clusters")
    cluster = re.escape(f"outbound|{HELLO_PORT}||helloworld.{env.samples}.svc.cluster.local::")
    return set(re.findall(rf"^{cluster}([\d.]+:\d+)::", listed, re.MULTILINE))
