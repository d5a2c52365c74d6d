"""A run of the installer on small tools of our own; nothing is downloaded."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab.tools import install as installing
from lab.tools import recipes
from lab.tools.cache import Slot, bin_directory, log_file
from lab.tools.found import in_cache
from lab.tools.install import install
from lab.tools.job import Job, ToolError
from lab.tools.tool import Call, Tool

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(installing, "PLUGINS", {})


def tool(name: str, make: Callable[[Job], None], needs: Sequence[str] = ()) -> Tool:
    return Tool(name=name, version="1", steps=[Call(make, inputs=[name])], needs=needs, links={name: name})


def writes(name: str, text: str = "made") -> Callable[[Job], None]:
    def write(job: Job) -> None:
        (job.folder / name).write_text(text)

    return write


def table(monkeypatch: pytest.MonkeyPatch, *tools: Tool) -> list[str]:
    monkeypatch.setattr(recipes, "TOOLS", tools)
    return [each.name for each in tools]


def test_a_tool_is_made_from_another_and_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    def combine(job: Job) -> None:
        (job.folder / "pie").write_text((job.needs["apple"] / "apple").read_text() + " pie")

    # the pie comes first in the table: order is that of work, needs are waited for
    names = table(monkeypatch, tool("pie", combine, ["apple"]), tool("apple", writes("apple", "apple")))
    assert install(names, jobs=1) == 0
    assert (bin_directory() / "pie").read_text() == "apple pie"


def test_a_second_run_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def make(job: Job) -> None:
        calls.append("made")
        (job.folder / "probe").write_text("made")

    names = table(monkeypatch, tool("probe", make))
    assert [install(names, jobs=1), install(names, jobs=1)] == [0, 0]
    assert calls == ["made"]


def test_a_failure_is_told_with_its_log_and_spares_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(job: Job) -> None:
        job.run(["sh", "-c", "echo the compiler says no; exit 3"], cwd=job.folder)

    bad, pie, good = tool("bad", fail), tool("pie", writes("pie"), ["bad"]), tool("good", writes("good"))
    assert install(table(monkeypatch, bad, pie, good), jobs=2) == 1
    said = capsys.readouterr().err
    assert "bad: FAILED: sh failed with exit code 3" in said
    assert "the compiler says no" in said and str(log_file("bad")) in said
    assert "pie: not made: bad is missing" in said
    assert "Missing: bad, pie." in said
    assert in_cache(good) and not in_cache(bad) and not in_cache(pie)


def test_the_next_run_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = True

    def sometimes(job: Job) -> None:
        (job.folder / "left over").touch(exist_ok=False)  # fails when the next attempt begins on what this one left
        if broken:
            raise ToolError("not today")

    names = table(monkeypatch, tool("probe", sometimes))
    assert install(names, jobs=1) == 1
    broken = False
    assert install(names, jobs=1) == 0


def test_an_attempt_that_is_kept_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Tool(name="kept", version="1", steps=[Call(writes("end"))], keep_partial=True)
    slot = Slot("kept", "1", recipes.key(kept))
    slot.partial.mkdir(parents=True)
    (slot.partial / "begin").write_text("from the last run")
    assert install(table(monkeypatch, kept), jobs=1) == 0
    assert (slot.folder / "begin").exists() and (slot.folder / "end").exists()


def alive_in_group(group: int) -> list[str]:
    """Processes of a group, those that only wait to be reaped apart (proc(5), /proc/pid/stat)."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, pgrp = path.read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                found.append(path.parent.name)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    script = f"""
import sys
from lab.tools import install, recipes
from lab.tools.tool import Call, Tool
install.PLUGINS = {{}}
sleep = Call(lambda job: job.run(["sh", "-c", "echo $$ > {pid_file}; sleep 60 & wait"], cwd=job.folder))
later = Tool(name="later", version="1", steps=[], needs=["slow"])
recipes.TOOLS = (Tool(name="slow", version="1", steps=[sleep]), later)
sys.exit(install.install(["later"], jobs=1))
"""
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.05)
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Interrupted" in said and "FAILED" not in said
    group = int(pid_file.read_text())  # the shell, and the sleep it started
    while alive_in_group(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive_in_group(group) == []


def test_two_runs_do_not_make_the_same_tool_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "made"
    script = f"""
import sys, time
from lab.tools import install, recipes
from lab.tools.tool import Call, Tool
install.PLUGINS = {{}}
def make(job):
    with open({str(made)!r}, "a") as file:
        file.write("x")
    time.sleep(1)
recipes.TOOLS = (Tool(name="slow", version="1", steps=[Call(make)]),)
sys.exit(install.install(["slow"], jobs=1))
"""
    runs = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(timeout=30) for run in runs] == [0, 0]
    assert made.read_text() == "x"


def test_where_the_lab_does_not_run_nothing_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipes, "HERE", "darwin-arm64")
    made: list[str] = []
    names = table(monkeypatch, tool("pie", lambda job: made.append("pie")))
    assert install(names, jobs=1) == 1
    assert made == []
    assert "it has no official release, and on darwin-arm64 nothing is built" in "".join(capsys.readouterr())
