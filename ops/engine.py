"""Runs an operation of Pulumi's engine for people to watch: its output as it comes, and at the end one line for each thing that failed.

The engine prints diagnostics of several pages; what failed and why is taken from its event log instead (`--event-log`, which it has
for its own Automation API), one JSON object a line: `sdk/go/common/apitype/events.go` in Pulumi's sources.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from ops import state
from ops.errors import Interrupted, OpsError, missing_pulumi, reason, reasons
from ops.workspace import EVENT_LOG, ROOT, Stack

_COLOURS = re.compile(r"\x1b\[[0-9;]*m|<\{%.*?%\}>")
SAYS_NOTHING = re.compile(
    r"(update|preview|destroy|refresh) failed|an unhandled error occurred: program exited with .*"
)
"""What the engine says besides the reason."""
# The first is said again with every plugin that starts, where we say it once; the rest advises what `make down` does next.
NOISE = re.compile(
    r"warning: using pulumi-resource-[\w-]+ from \$PATH at "
    r"|^The resources in the stack have been deleted, but |^If you want to remove the stack completely, "
)
LOG = "events.jsonl"
"""The log of the last operation in the stack's folder."""
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


def operate(stack: Stack, verb: str, *arguments: str, after: str = "") -> None:
    """Run `pulumi <verb>` on the stack.

    Ctrl-C and a request to end are passed on once each: at the first the engine ends what is under way, at the second itself.

    Args:
        stack: the stack.
        verb: `up`, `destroy` or `preview`.
        arguments: further words of the command line.
        after: what to do after a failure or an interruption.

    Raises:
        OpsError: it failed; the message has a line for each resource that did.
        Interrupted: it was asked to end.
    """
    log = stack.folder / LOG
    log.unlink(missing_ok=True)
    colour = "always" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "never"
    words = [*stack.on_stack(verb, *arguments), "--non-interactive", "--color", colour, "--event-log", str(log)]
    code, asked = _run(["pulumi", *words], {**stack.env, **EVENT_LOG})
    if asked:
        raise Interrupted(f"interrupted; {after}" if after else "interrupted")
    if code:
        raise OpsError(_message(verb, code, failures(log), after))


def _run(command: list[str], env: dict[str, str]) -> tuple[int, bool]:
    """The exit code, and whether we were asked to end. A process group of its own keeps the terminal from interrupting it as well."""
    try:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except FileNotFoundError:
        raise missing_pulumi() from None
    with child, _passing_on_signals(child) as asked:
        assert child.stdout
        _show(child.stdout, sys.stdout)
        return child.wait(), bool(asked)


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


def _show(pipe: IO[bytes], out: IO[str]) -> None:
    """Print whole lines as they come, but for noise; and at once the engine's sign of life, a line of dots that grows."""
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
                line, shown = "", 0
        out.flush()


def plain(text: str) -> str:
    """The text without colours."""
    return _COLOURS.sub("", text)


def failures(log: Path) -> list[Failed]:
    """What the event log has on resources that failed, each with its last reason; the program itself goes by PROGRAM."""
    found: dict[str, str] = {}
    for event in events(log):
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


def events(log: Path) -> Iterator[dict[str, Any]]:
    """What the engine has logged."""
    for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return  # The engine was killed while it wrote this, its last line.


def _message(verb: str, code: int, failed: list[Failed], after: str) -> str:
    ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed; its reasons are above"
    said = [f"{one.name}: {one.reason}" for one in failed] or [f"`pulumi {verb}` {ending}"]
    return "\n  ".join([*said, *([after] if after else [])])
