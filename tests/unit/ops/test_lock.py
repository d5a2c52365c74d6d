"""One command at a time changes a stack: who is refused, what that one is told, and what goes on meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands import __main__ as cli
from ops import engine, lock
from ops.errors import OpsError
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, deployment, machine

ROOT = Path(__file__).parents[3]
HOLDS = """\
import sys, time
from pathlib import Path
from ops import lock
with lock.alone(Path(sys.argv[1]), "lab", "up"):
    print("has it", flush=True)
    time.sleep(60)
"""
LOCKED = """\
error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock file with `pulumi \
cancel`.
  s3://team/.pulumi/locks/organization/istio-vms/lab/1.json: created by ana@build-7 (pid 4711) at 2026-11-26T14:00:00Z
"""


@contextmanager
def somebody(folder: Path) -> Generator[subprocess.Popen[str]]:
    """Another process that works on the stack."""
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout and child.stdout.readline() == "has it\n"
        try:
            yield child
        finally:
            child.kill()


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["istio-vms", *words])
    return cli.main()


@pytest.mark.parametrize("verb", ["up", "down", "rejoin", "snapshot"])
def test_the_second_is_told_who_is_at_work_and_what_to_do(
    world: World, stack: Stack, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.setenv("STACK", "lab")
    monkeypatch.setenv("VM", "vm-1" if verb == "rejoin" else "")
    world.put("deployment.json", deployment(api, machine("lab-vm-1", "multipass", "10.89.0.14")))
    with somebody(stack.folder) as other:
        assert run(monkeypatch, verb) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    at_work = rf"error: stack lab is being worked on by process {other.pid} \(make up\) since 20\S+\. "
    assert re.fullmatch(at_work + "Wait for its end, .*make status STACK=lab.*", said)
    assert "cancel" not in said
    assert not [call for call in world.calls() if call["words"][0] in ("up", "destroy")]


@pytest.mark.parametrize("verb", ["preview", "kubeconfig", "diff-stacks"])
def test_what_changes_nothing_goes_on_meanwhile(
    world: World, stack: Stack, api: Api, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    for name, value in (("STACK", "lab"), ("A", "lab"), ("B", "lab")):
        monkeypatch.setenv(name, value)
    world.put("deployment.json", deployment(api))
    monkeypatch.setattr("ops.diff_stacks.compare", lambda *_: [])
    with somebody(stack.folder):
        assert run(monkeypatch, verb) == 0


def test_the_lock_of_a_killed_process_is_nobodys(stack: Stack) -> None:
    with somebody(stack.folder) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        with lock.alone(stack.folder, "lab", "down"):
            pass


def test_a_lock_that_went_with_its_folder_locks_nothing(stack: Stack) -> None:
    with lock.alone(stack.folder, "lab", "down"):
        shutil.rmtree(stack.folder)
        with lock.alone(stack.folder, "lab", "up"), pytest.raises(OpsError, match=r"\(make up\)"):
            lock.alone(stack.folder, "lab", "up").__enter__()


def test_one_after_the_other_makes_what_all_stacks_share(tmp_path: Path) -> None:
    """Each adds one to a number that it has read before."""
    count = "n = int(p.read_text()); time.sleep(0.05); p.write_text(str(n + 1))"
    program = (
        "import sys, time; from pathlib import Path; from ops import lock; p = Path(sys.argv[1])\n"
        f"with lock.in_turn(p.with_name('lock')): {count}"
    )
    number = tmp_path / "number"
    number.write_text("0")
    started = [subprocess.Popen([sys.executable, "-c", program, str(number)], cwd=ROOT) for _ in range(4)]
    assert [child.wait() for child in started] == [0] * 4
    assert number.read_text() == "4"


def test_first_commands_of_two_stacks_share_one_passphrase(world: World) -> None:
    program = (
        "import os, sys; from pathlib import Path; from ops import workspace\n"
        "workspace.ROOT = Path(os.environ['FAKE_WORLD']).parent / 'project'\n"
        "workspace.Stack.open(sys.argv[1])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    started = [
        subprocess.Popen([sys.executable, "-c", program, name], env=env, stderr=subprocess.PIPE, text=True)
        for name in ("lab", "lab-two", "lab")
    ]
    said = [child.communicate()[1] for child in started]
    assert [child.returncode for child in started] == [0, 0, 0], said
    assert sum(text.count("made a passphrase") for text in said) == 1
    assert len(world.calls("stack", "init")) == 2


def test_pulumis_own_lock_is_told_in_our_words(stack: Stack, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.put("up.out", f"Updating (lab):\n{LOCKED}")
    world.put("up.code", "255")
    with pytest.raises(OpsError) as raised:
        engine.operate(stack, "up", after="`make up` goes on from here")
    assert str(raised.value) == (
        "stack lab is being worked on by process 4711 of ana on build-7 since 2026-11-26T14:00:00Z. Wait for its end. Only when you know "
        "that it is dead, with the environment of `make env`: pulumi cancel --stack lab"
    )
    assert "locked by" not in capsys.readouterr().out
    assert "cancel" not in capsys.readouterr().out


@pytest.mark.parametrize("said", [LOCKED, "error: [409] Conflict: Another update is currently in progress.\n"])
def test_a_lock_is_told_apart_from_other_failures(said: str) -> None:
    assert "stack lab is being worked on by " in str(lock.held("lab", said))
    assert lock.held("lab", "error: the bucket is gone") is None


def test_who_reads_the_lock_as_it_is_being_taken_waits_for_the_name(tmp_path: Path) -> None:
    descriptor = lock._take(tmp_path / "lock", wait=False)
    assert descriptor is not None
    began = time.monotonic()
    with pytest.raises(OpsError, match="worked on by another process"):
        lock.alone(tmp_path, "lab", "up").__enter__()
    assert time.monotonic() - began < 5
