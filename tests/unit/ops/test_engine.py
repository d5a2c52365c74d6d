"""Running an operation: what people see of it, what is said when it fails, and how it is interrupted."""

import contextlib
import io
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ops import engine
from ops.engine import Failed
from ops.errors import Interrupted, OpsError, reason
from ops.event_log import EventLog
from ops.workspace import Stack
from tests.unit.ops.conftest import World, urn

NOISE = "using pulumi-resource-command from $PATH at /x/pulumi-resource-command"
OUTPUT = f"""\
Updating (lab):
@ updating....
    pulumi:pulumi:Stack istio-vms-lab running warning: {NOISE}
 +  command:local:Command a creating (0s) [  0.1 s] warming → up
Diagnostics:
    warning: {NOISE}
    warning: something else
The resources in the stack have been deleted, but the history and configuration are still maintained.
If you want to remove the stack completely, run `pulumi stack rm lab`.
no newline"""


def said(message: str, name: str = "", **more: Any) -> str:
    """One line of an event log."""
    kind = "pulumi:pulumi:Stack" if name == "istio-vms-lab" else "command:local:Command"
    named = {"urn": urn(kind, name)} if name else {}
    return json.dumps({"diagnosticEvent": {"severity": "error", "message": message, **named, **more}}) + "\n"


def events(*lines: str) -> str:
    return json.dumps({"preludeEvent": {}}) + "\n" + "".join(lines)


def test_output_comes_without_noise(stack: Stack, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.put("up.out", OUTPUT)
    engine.operate(stack, "up", "--yes")
    shown = capsys.readouterr().out
    assert "a creating (0s) [  0.1 s] warming → up" in shown
    assert "warning: something else" in shown
    assert "@ updating....\n" in shown
    assert "$PATH" not in shown
    assert "pulumi stack rm" not in shown


def test_colours_are_off_and_the_stack_and_its_settings_are_named(stack: Stack, world: World) -> None:
    engine.operate(stack, "up", "--yes")
    (call,) = world.calls("up")
    words = " ".join(call["words"])
    assert words.startswith(f"up --stack lab --config-file {stack.config_file} --yes --non-interactive --color never")
    assert call["cwd"] == str(world.project)


class Screen(io.StringIO):
    """What has been printed since it was last looked at."""

    def since(self, expected: str) -> str:
        """Wait until this much is there; what is there then, or after a moment when nothing is expected."""
        end = time.monotonic() + (5 if expected else 0.2)
        while time.monotonic() < end and not (expected and self.getvalue() == expected):
            time.sleep(0.01)
        shown = self.getvalue()
        self.seek(0)
        self.truncate()
        return shown


def test_a_line_is_shown_when_it_ends_and_a_sign_of_life_at_once() -> None:
    read, write = os.pipe()
    screen = Screen()
    thread = threading.Thread(target=lambda: engine._show(os.fdopen(read, "rb"), screen))
    thread.start()
    steps = [
        (b"\x1b[38;5;3m@ upd", "\x1b[38;5;3m@ upd"),
        (b"..", ".."),
        (b".\x1b[0m\n", ".\x1b[0m\n"),
        (b"half \xe2", ""),
        (b"\x86\x92\n", "half →\n"),
        (b"\x1b[33mwarning: \x1b[0musing pulumi-resource-x from $PATH at /x\n", ""),
    ]
    try:
        for sent, expected in steps:
            os.write(write, sent)
            assert screen.since(expected) == expected
    finally:
        os.close(write)
        thread.join()


def test_each_failed_resource_has_its_line_and_the_last_says_what_to_do(stack: Stack, world: World) -> None:
    command = 'exit status 1: running "actions/run workloads.join":\n[   0.1 s] waiting\nerror: {}\n\n'
    world.put("up.code", "1")
    world.put(
        "up.events",
        events(
            said(command.format("no <{%fg 1%}>connection<{%reset%}>; look at it"), "vm-1-join"),
            said("in passing", "vm-2-join", severity="info"),
            said("a status", "vm-2-join", ephemeral=True),
            said("Helm release failed", "istiod"),
            said("update failed\n"),
        ),
    )
    with pytest.raises(OpsError) as raised:
        engine.operate(stack, "up", after="`make up` goes on from here")
    assert str(raised.value).splitlines() == [
        "vm-1-join: no connection; look at it",
        "  istiod: Helm release failed",
        "  `make up` goes on from here",
    ]
    assert raised.value.code == 1


def test_a_program_that_fails_is_told_apart_from_its_resources(stack: Stack, world: World) -> None:
    traceback = 'Program failed with an unhandled exception:\nTraceback (most recent call last):\n  File "x"\n'
    error = "components.settings.SettingsError: 2 error(s) in the settings:\n  - a: bad\n  - b: worse\n"
    ending = said("an unhandled error occurred: program exited with non-zero exit code: 1", "istio-vms-lab")
    world.put("up.events", events(said(traceback + error, "istio-vms-lab"), ending))
    world.put("up.code", "255")
    with pytest.raises(
        OpsError, match=r"^the program: components\.settings\.SettingsError: 2 .*:\n    - a: bad\n    - b: worse$"
    ):
        engine.operate(stack, "up")


def test_a_failure_without_reasons_points_to_the_output(stack: Stack, world: World) -> None:
    world.put("destroy.code", "1")
    with pytest.raises(OpsError, match="`pulumi destroy` failed; its reasons are above"):
        engine.operate(stack, "destroy")


def test_an_engine_that_was_killed_is_told_so(stack: Stack, world: World) -> None:
    world.program("pulumi", "#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(OpsError, match=r"^`pulumi up` was ended by SIGKILL\n  go on$"):
        engine.operate(stack, "up", after="go on")


def test_an_event_log_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    with EventLog() as log:
        assert engine.failures(log.events()) == []
        Path(log.words[1]).write_text(events(said("one", "a"), said("two", "b")[:-20]))
        assert engine.failures(log.events()) == [Failed("a", "one")]


@pytest.mark.parametrize("ending", ["up.out", "up.code", "up.hangs"])
def test_what_the_engine_logs_is_never_in_a_file(stack: Stack, world: World, tmp_path: Path, ending: str) -> None:
    """However the run ends: well, badly, or killed with us."""
    world.put(ending, "1")
    world.put("up.events", events(said("key hunter2", severity="debug")))
    child = os.fork()
    if not child:
        signal.alarm(60)
        with contextlib.suppress(BaseException):
            engine.operate(stack, "up")
        os._exit(0)
    end = time.monotonic() + 60
    while ending == "up.hangs" and not (world.folder / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    if ending == "up.hangs":
        for process in (*map(int, children(child)), child):
            os.kill(process, signal.SIGKILL)
    os.waitpid(child, 0)
    shutil.rmtree(world.folder)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def interrupt(world: World, number: int) -> threading.Thread:
    def run() -> None:
        while not (world.folder / "begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_passed_on_once_and_waited_for(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    world.put("up.hangs", "")
    before = signal.getsignal(number)
    thread = interrupt(world, number)
    with pytest.raises(Interrupted) as raised:
        engine.operate(stack, "up", after="`make up` goes on from here")
    thread.join()
    assert str(raised.value) == "interrupted; `make up` goes on from here"
    assert raised.value.code == 130
    assert "cancelling after 1 signal" in capsys.readouterr().out
    assert signal.getsignal(number) is before


def test_the_terminal_does_not_interrupt_the_engine_as_well(stack: Stack, world: World) -> None:
    world.put("up.hangs", "")
    groups: list[int] = []

    def look() -> None:
        while not (world.folder / "begun").exists():
            time.sleep(0.01)
        groups.extend(os.getpgid(int(pid)) for pid in children(os.getpid()))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=look)
    thread.start()
    with pytest.raises(Interrupted):
        engine.operate(stack, "up")
    thread.join()
    assert groups and os.getpgrp() not in groups


def children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\nerror: two\n\n", "two"),
        ("error: a:\n  b\n  c", "a: b c"),
        ("  only indented", "only indented"),
        ("", "no reason given"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_a_reason_is_one_line(text: str, expected: str) -> None:
    assert reason(text) == expected


REPLACED = """\
unable to replace resource "urn:pulumi:lab::istio-vms::command:local:Command::a"
as it is currently marked for protection. To unprotect the resource, remove the `protect` flag from the resource in your Pulumi program
"""
DELETED = """\
resource "urn:pulumi:lab::istio-vms::command:local:Command::a" cannot be deleted
because it is protected. To unprotect the resource, either remove the `protect` flag from the resource in your Pulumi program
"""


@pytest.mark.parametrize("message", [REPLACED, DELETED])
def test_what_protection_refuses_is_said_in_terms_of_settings(stack: Stack, world: World, message: str) -> None:
    world.put("preview.events", events(said(message, "a")))
    world.put("preview.code", "1")
    with pytest.raises(
        OpsError, match=r"^a: would be deleted or replaced, which istio-vms:protection refuses\. "
    ) as caught:
        engine.operate(stack, "preview")
    assert "Pulumi program" not in str(caught.value)
