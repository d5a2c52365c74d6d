"""Pods of the mesh: none without its sidecar, none that answers to plaintext past its Service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actions.mesh.injection import uninjected
from components.settings import MtlsMode
from verify.calls import EMPTY, RESET
from verify.environment import HELLO_PORT, SIDECAR, Environment
from verify.finding import Finding, found

SECONDS = 3


def run(env: Environment) -> Iterator[Finding]:
    """Each namespace's pods have sidecars of its revision; each of them is called at its own address by a pod outside of the mesh."""
    revision, outside = env.settings.mesh.revision, env.client("plain", env.settings.outside_namespace)
    for namespace in env.settings.namespaces():
        bare = uninjected(env.cluster, [namespace], revision)
        injected = [pod for pod in env.pods(namespace, "") if _has_sidecar(pod)]
        yield found(
            f"{namespace}: every pod has a sidecar of {revision}",
            f"the pods of namespace {namespace}, but for those that are to have none",
            "; ".join(map(str, bare)) or f"{len(injected)} pod(s) with sidecars",
            not bare,
        )
        if env.settings.policies.namespace_mtls.get(namespace, env.settings.policies.mtls) is not MtlsMode.STRICT:
            continue
        for pod in injected:
            address = pod["status"]["podIP"]
            answer = outside.call(f"http://{address}:{HELLO_PORT}/hello", seconds=SECONDS)[0]
            yield found(
                f"pod {namespace}/{pod['metadata']['name']}: plaintext to its own address is refused by its sidecar",
                f"GET http://{address}:{HELLO_PORT}/hello from a pod without a sidecar",
                f"connected; {answer}" if answer.connected else str(answer),
                answer.connected and answer.exit_code in (EMPTY, RESET),
            )


def _has_sidecar(pod: Any) -> bool:
    containers = [*pod["spec"].get("containers", []), *pod["spec"].get("initContainers", [])]
    return any(one["name"] == SIDECAR for one in containers)
