"""Access logs by the Telemetry API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from verify.calls import Answer
from verify.environment import SIDECAR, Environment
from verify.finding import Finding, found, not_asked

LOG = "/var/log/istio/istio.log"
SECONDS = 15
LINE_CHARACTERS = 160


def run(env: Environment) -> Iterator[Finding]:
    """A request with a word of its own; the line with that word in the log of the sidecar that served it."""
    if env.settings.telemetry.access_logs == "off":
        yield not_asked("access logs", "telemetry.accessLogs")
        return
    urls = dict.fromkeys([env.hello, *(f"{group[0].url}/hello" for group in env.groups())])
    for url in urls:
        word = f"verify-{secrets.token_hex(6)}"
        answer = env.client().call(f"{url}?{word}")[0]
        namespace = url.split(".")[1]
        wanted = _logged(env, namespace)
        line = _line(env, namespace, answer, word, wait=wanted)
        yield found(
            f"{answer.instance or url}: {'logs' if wanted else 'does not log'} the request it served",
            f"GET {url}?{word}, then the log of that sidecar",
            line[:LINE_CHARACTERS] if line else f"no line with {word}",
            answer.ok and bool(line) == wanted,
        )


def _logged(env: Environment, namespace: str) -> bool:
    telemetry = env.settings.telemetry
    return telemetry.access_logs == "mesh" or namespace in telemetry.namespaces


def _line(env: Environment, namespace: str, answer: Answer, word: str, wait: bool) -> str:
    """The log's line with the word. The sidecar writes its log once a second; without `wait` one look after that has to do."""
    end = time.monotonic() + (SECONDS if wait else 3)
    while True:
        log = _log(env, namespace, answer.instance, word)
        line = next((line for line in log.splitlines() if word in line), "")
        if line or time.monotonic() > end:
            return line
        time.sleep(1)


def _log(env: Environment, namespace: str, instance: str, word: str) -> str:
    member = next((member for member in env.members if member.name == instance), None)
    if member:
        return member.vm.run(f"grep -F {word} {LOG} || true")
    return env.cluster.logs(namespace, instance, SIDECAR, SECONDS * 2) if instance else ""
