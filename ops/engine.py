"""Runs an operation of Pulumi's engine for people to watch: its output as it comes, and at the end one line for each thing that failed.

The engine prints diagnostics of several pages; what failed and why is taken from its event log instead.
"""

from __future__ import annotations

import codecs
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any

from ops import lock, state
from ops.errors import Interrupted, OperationFailed, missing_pulumi, reason, reasons
from ops.event_log import ENV, EventLog
from ops.workspace import ROOT, Stack
from review.preview import NOISE, SAYS_NOTHING

_COLOURS = re.compile(r"\x1b\[[0-9;]*m|<\{%.*?%\}>")
LAST_LINES = 20
PROGRAM = "the program"
REFUSED_BY_PROTECTION = re.compile(r"(unable to replace|cannot be deleted\b).*?\bprotect", re.DOTALL)
"""What the engine says of a protected resource, with advice on changing the program: `deleteProtectedError` and the replacements of
`step_generator.go` in Pulumi's sources."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


PROTECTED = (
    "would be deleted or replaced, which istio-vms:protection refuses. Take the change back; or, if it is meant: set protection to false, "
    "`make up` without the change, then make the change, and set it to true again"
)


@dataclass(frozen=True)
class Failed:
    """One resource that failed, by its name in the program, and why in a line."""

    name: str
    reason: str


def operate(stack: Stack, verb: str, *arguments: str, after: str = "", log: EventLog | None = None) -> None:
    """Run `pulumi <verb>` on the stack.

    Ctrl-C and a request to end are passed on once each: at the first the engine ends what is under way, at the second itself.

    Args:
        stack: the stack.
        verb: `up`, `destroy` or `preview`.
        arguments: further words of the command line.
        after: what to do after a failure or an interruption.
        log: gets the engine's events, for who wants to read them afterwards.

    Raises:
        OperationFailed: it failed; the message has a line for each resource that did.
        Interrupted: it was asked to end.
    """
    if log is None:
        with EventLog() as own:
            return operate(stack, verb, *arguments, after=after, log=own)
    colour = "always" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "never"
    words = [*stack.on_stack(verb, *arguments), "--non-interactive", "--color", colour, *log.words]
    code, asked, said = _run(stack, ["pulumi", *words], log)
    if asked:
        raise Interrupted(f"interrupted; {after}" if after else "interrupted")
    if code:
        failed = failures(log.events())
        why = _message(verb, code, failed, after)
        raise lock.held(stack.name, said) or OperationFailed(why, [one.name for one in failed])
    return None


def _run(stack: Stack, command: Sequence[str], log: EventLog) -> tuple[int, bool, str]:
    """The exit code, whether we were asked to end, and what was said last.

    A process group of its own keeps the terminal from interrupting it as well.
    """
    try:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**stack.env, **ENV},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            pass_fds=log.inherited,
            umask=stack.umask,
        )
    except FileNotFoundError:
        raise missing_pulumi() from None
    with child, _passing_on_signals(child) as asked:
        assert child.stdout
        said = _show(child.stdout, sys.stdout)
        return child.wait(), bool(asked), said


@contextmanager
def _passing_on_signals(child: subprocess.Popen[bytes]) -> Generator[list[int]]:
    """Requests to end go to the child as interruptions; the list has those that came."""
    came: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        came.append(number)
        child.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(pipe: IO[bytes], out: IO[str]) -> str:
    """Print whole lines as they come, but for noise; and at once the engine's sign of life, a line of dots that grows. The last lines."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    line, shown = "", 0
    while data := os.read(pipe.fileno(), 65536):
        for part in re.split(r"(?<=\n)", decoder.decode(data)):
            line += part
            text = plain(line)
            if text.startswith("@") or (text.endswith("\n") and not NOISE.search(text)):
                out.write(line[shown:])
                shown = len(line)
            if text.endswith("\n"):
                last.append(text)
                line, shown = "", 0
        out.flush()
    return "".join(last)


def plain(text: str) -> str:
    """The text without colours."""
    return _COLOURS.sub("", text)


def failures(events: Iterable[Mapping[str, Any]]) -> list[Failed]:
    """What the engine's events have on resources that failed, each with its last reason; the program itself goes by PROGRAM."""
    found: dict[str, str] = {}
    for event in events:
        if (said := event.get("policyEvent")) and said["enforcementLevel"] == "mandatory":
            name = state.name(said.get("resourceUrn", "")) or "the stack"
            found[f"policy {said['policyName']}: {name}"] = reason(plain(said["message"]))
            continue
        diagnostic = event.get("diagnosticEvent", {})
        if diagnostic.get("severity") != "error" or diagnostic.get("ephemeral"):
            continue
        urn, text = diagnostic.get("urn", ""), plain(diagnostic["message"])
        if not SAYS_NOTHING.fullmatch(text.strip()):
            name = state.name(urn) if urn and "pulumi:pulumi:Stack" not in urn else PROGRAM
            why = reasons(text) if name == PROGRAM else reason(text)
            found[name] = PROTECTED if REFUSED_BY_PROTECTION.search(text) else why
    return [Failed(name, why) for name, why in found.items()]


def _message(verb: str, code: int, failed: list[Failed], after: str) -> str:
    ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed; its reasons are above"
    said = [f"{one.name}: {one.reason}" for one in failed] or [f"`pulumi {verb}` {ending}"]
    return "\n  ".join([*said, *([after] if after else [])])
