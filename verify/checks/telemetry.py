"""Access logs by the Telemetry API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from actions.protocol import Deadline
from verify.calls import Answer
from verify.environment import SIDECAR, Environment
from verify.finding import Finding, found, not_asked

LOG = "/var/log/istio/istio.log"
SECONDS = 60
"""How long another setting may take to show: a connection keeps the listener it came to until that is drained, 45 s by default."""
LINE_SECONDS = 3
"""How long a line may take; the sidecar writes its log once a second."""
LINE_CHARACTERS = 160


@dataclass(frozen=True)
class _Request:
    """A request with a word of its own, and the line of the sidecar that served it; empty when there is none."""

    word: str
    answer: Answer
    line: str


def run(env: Environment) -> Iterator[Finding]:
    """Requests with a word of their own; the line with that word in the log of the sidecar that served it, or none."""
    if env.settings.telemetry.access_logs == "off":
        yield not_asked("access logs", "telemetry.accessLogs")
        return
    urls = dict.fromkeys([env.hello, *(f"{group[0].url}/hello" for group in env.groups())])
    for url in urls:
        namespace = url.split(".")[1]
        wanted = _logged(env, namespace)
        end = Deadline(SECONDS)
        request = _request(env, namespace, url)
        while bool(request.line) != wanted and not end.passed:
            time.sleep(1)
            request = _request(env, namespace, url)
        yield found(
            f"{request.answer.instance or url}: {'logs' if wanted else 'does not log'} the request it served",
            f"GET {url}?{request.word}, then the log of that sidecar",
            request.line[:LINE_CHARACTERS] or f"no line with {request.word}",
            request.answer.ok and bool(request.line) == wanted,
        )


def _request(env: Environment, namespace: str, url: str) -> _Request:
    word = f"verify-{secrets.token_hex(6)}"
    answer = env.client().call(f"{url}?{word}")[0]
    end = Deadline(LINE_SECONDS)
    while True:
        lines = _log(env, namespace, answer.instance, word).splitlines()
        line = next((line for line in lines if word in line), "")
        if line or end.passed:
            return _Request(word, answer, line)
        time.sleep(0.5)


def _logged(env: Environment, namespace: str) -> bool:
    telemetry = env.settings.telemetry
    return telemetry.access_logs == "mesh" or namespace in telemetry.namespaces


def _log(env: Environment, namespace: str, instance: str, word: str) -> str:
    member = next((member for member in env.members if member.name == instance), None)
    if member:
        return member.vm.run(f"grep -F {word} {LOG} || true")
    return env.cluster.logs(namespace, instance, SIDECAR, SECONDS) if instance else ""
