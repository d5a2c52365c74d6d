"""HTTP calls by curl, from where a user's own would come: a pod's container, or a VM's shell.

One curl process makes all calls of a series, one after the other, so that what is measured is the mesh and not the starting of processes.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from actions.kube import Cluster
from actions.protocol import Failure
from actions.ssh import side_by_side
from actions.workloads.vm import Vm

CALL_SECONDS = 5
SESSION_SECONDS = 15
"""What a series may take on top of its calls: the connection to where curl runs."""
REFUSED, TIMED_OUT, EMPTY, RESET = 7, 28, 52, 56
"""curl's exit codes, see EXIT CODES in curl(1): nothing listens or a packet was rejected, no answer in time, closed, reset."""

_RECORD, _FIELD = "\x1e", "\x1f"
_VARIABLES = ("%{http_code}", "%{exitcode}", "%{time_connect}", "%{time_total}", "%header{x-instance}", "%{errormsg}")
_FORMAT = _RECORD + _FIELD.join(_VARIABLES) + _RECORD
_INSTANCE = re.compile(r"version: (\S+), instance: (\S+)")


@dataclass(frozen=True)
class Answer:
    """One call's end. Without an answer `status` is 0 and `error` says why.

    Attributes:
        status: the HTTP status.
        body: what came back.
        exit_code: curl's; 0 also for an HTTP error.
        connected: whether it made a TCP connection, which a sidecar on the caller's side always grants; false for a later call of a
            series, which uses the first one's.
        seconds: the whole call.
        header: what the sample application on a VM says in `X-Instance`.
        error: curl's words.
    """

    status: int
    body: str
    exit_code: int
    connected: bool
    seconds: float
    header: str
    error: str

    @property
    def ok(self) -> bool:
        """Answered with 200, to the end."""
        return self.status == 200 and self.exit_code == 0

    @property
    def version(self) -> str:
        """The version that answered `/hello`; empty when the body does not say."""
        said = _INSTANCE.search(self.body)
        return said[1] if said else ""

    @property
    def instance(self) -> str:
        """The pod or VM that answered; empty when neither the header nor the body says."""
        said = _INSTANCE.search(self.body)
        return self.header or (said[2] if said else "")

    def __str__(self) -> str:
        """The status, or what went wrong."""
        return self.error or f"curl ended with {self.exit_code}" if self.exit_code else str(self.status)


class Caller(Protocol):
    """Somewhere to call from. `name` is for people."""

    name: str

    def call(
        self, url: str, *, count: int = 1, headers: Mapping[str, str] | None = None, per_second: int = 0,
        seconds: int = CALL_SECONDS,
    ) -> list[Answer]:  # fmt: skip
        """Call a URL `count` times, at most `per_second` of them a second where that is given; each has `seconds`.

        Raises:
            Failure: curl could not be run there.
        """
        ...


@dataclass(frozen=True)
class PodCaller:
    """A container that has curl."""

    cluster: Cluster
    namespace: str
    pod: str
    container: str

    @property
    def name(self) -> str:
        """Namespace and pod."""
        return f"pod {self.namespace}/{self.pod}"

    def call(
        self, url: str, *, count: int = 1, headers: Mapping[str, str] | None = None, per_second: int = 0,
        seconds: int = CALL_SECONDS,
    ) -> list[Answer]:  # fmt: skip
        """See `Caller.call`."""
        words = command(url, count, headers or {}, per_second, seconds)
        limit = longest(count, per_second, seconds)
        ran = self.cluster.run(self.namespace, self.pod, self.container, words, limit)
        return answers(ran.stdout, ran.stderr)


@dataclass(frozen=True)
class VmCaller:
    """A VM's shell. As user `istio-proxy` nothing is captured: the packets go where the routes lead."""

    name: str
    vm: Vm
    user: str = "nobody"

    def call(
        self, url: str, *, count: int = 1, headers: Mapping[str, str] | None = None, per_second: int = 0,
        seconds: int = CALL_SECONDS,
    ) -> list[Answer]:  # fmt: skip
        """See `Caller.call`."""
        words = command(url, count, headers or {}, per_second, seconds)
        return answers(self.vm.run(self._script(words), timeout=longest(count, per_second, seconds)), "")

    def call_side_by_side(self, url: str, *, streams: int, count: int) -> list[Answer]:
        """Call a URL from so many curls at once, `count` times each.

        Each has connections of its own: through a gateway, which cannot see requests, balancing is by connection.
        """
        words = self._script(command(url, count, {}, 0, CALL_SECONDS))
        script = side_by_side(words, streams)
        return answers(self.vm.run(script, timeout=longest(count, 0, CALL_SECONDS)), "")

    def _script(self, words: Sequence[str]) -> str:
        """Without curl's exit code, which is in what it prints, once for each call."""
        return f"setpriv --reuid={self.user} --regid=nogroup --clear-groups {shlex.join(words)} || true"


def command(url: str, count: int, headers: Mapping[str, str], per_second: int, seconds: int) -> list[str]:
    """The words of curl. The number of the call goes into the query, by curl's own globbing."""
    words = ["curl", "-sS", "-m", str(seconds), "-w", _FORMAT]
    words += [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    words += ["--rate", f"{per_second}/s"] if per_second else []
    if count == 1:
        return [*words, "-g", url]
    return [*words, f"{url}{'&' if '?' in url else '?'}call=[1-{count}]"]


def longest(count: int, per_second: int, seconds: int) -> float:
    """Seconds that a series may take: the pauses, and a few calls that run into their limit."""
    return SESSION_SECONDS + (count / per_second if per_second else 0.0) + min(count, 10) * seconds


def answers(printed: str, errors: str) -> list[Answer]:
    """Read what `command` printed.

    Raises:
        Failure: it is not curl that printed it.
    """
    parts = printed.split(_RECORD)
    if len(parts) < 3:
        raise Failure(f"curl could not be run: {errors.strip() or printed.strip() or 'it printed nothing'}")
    return [_answer(body, state) for body, state in zip(parts[::2], parts[1::2], strict=False)]


def _answer(body: str, state: str) -> Answer:
    status, code, connect, total, header, error = state.split(_FIELD)
    return Answer(
        status=int(status),
        body=body,
        exit_code=int(code),
        connected=float(connect) > 0,
        seconds=float(total),
        header=header,
        error=error,
    )


def tally(seen: Sequence[Answer]) -> str:
    """Who answered how often: `20x helloworld-v1-abc, 10x lab-vm-4`, and what failed."""
    named = Counter(a.instance or str(a) if a.ok else str(a) for a in seen)
    return ", ".join(f"{count}x {what}" for what, count in sorted(named.items()))
