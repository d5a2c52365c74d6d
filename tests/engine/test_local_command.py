"""`command.local.Command`: when which script runs, and what is kept of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.harness import Program, alive, children, is_secret, until

Start = Callable[[str], Program]


@pytest.fixture
def program(start: Start) -> Program:
    return start("local_command")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_preview_runs_nothing(program: Program, log: Path) -> None:
    program.configure(inputs={"create": f"echo created >> {log}"})
    assert program.preview().steps["ran"] == "create"
    assert lines(log) == []


def test_up_then_no_change(program: Program, log: Path) -> None:
    program.configure(inputs={"create": f"echo out; echo err >&2; echo created >> {log}"})
    assert program.up().steps["ran"] == "create"
    assert program.outputs() == {"stdout": "out", "stderr": "err"}
    again = program.up()
    assert again.steps == {}
    assert lines(log) == ["created"]


def test_only_the_last_newline_is_dropped(program: Program) -> None:
    program.configure(inputs={"create": "printf ' a\\n\\n'"})
    program.up()
    assert program.outputs()["stdout"] == " a\n"


def test_update_runs_update_with_the_previous_output(program: Program, log: Path) -> None:
    script = f'echo "updated $X, was $PULUMI_COMMAND_STDOUT" | tee -a {log}'
    program.configure(inputs={"create": "echo first", "update": script, "environment": {"X": "1"}})
    program.up()
    program.configure(inputs={"create": "echo first", "update": script, "environment": {"X": "2"}})
    assert program.up().steps["ran"] == "update"
    assert lines(log) == ["updated 2, was first"]
    assert program.outputs()["stdout"] == "updated 2, was first"


def test_previous_output_can_be_kept_out(program: Program) -> None:
    inputs = {
        "create": "echo first",
        "update": "env | grep -c PULUMI_COMMAND || true",
        "add_previous_output_in_env": False,
    }
    program.configure(inputs=inputs)
    program.up()
    program.configure(inputs=inputs | {"stdin": "changed"})
    program.up()
    assert program.outputs()["stdout"] == "0"


def test_without_update_create_runs_again(program: Program, log: Path) -> None:
    program.configure(inputs={"create": f"cat >> {log}", "stdin": "one\n"})
    program.up()
    program.configure(inputs={"create": f"cat >> {log}", "stdin": "two\n"})
    assert program.up().steps["ran"] == "update"
    assert lines(log) == ["one", "two"]


def test_triggers_replace_even_with_update(program: Program, log: Path) -> None:
    inputs = {"create": f"echo create >> {log}", "update": f"echo update >> {log}", "delete": f"echo delete >> {log}"}
    program.configure(inputs=inputs | {"triggers": [1]})
    program.up()
    before = program.resources()["ran"]["id"]
    program.configure(inputs=inputs | {"triggers": [2]})
    assert program.up().steps["ran"] in ("replace", "create-replacement")
    assert lines(log) == ["create", "create", "delete"]
    assert program.resources()["ran"]["id"] != before


def test_delete_before_replace(program: Program, log: Path) -> None:
    inputs = {"create": f"echo create >> {log}", "delete": f"echo delete >> {log}"}
    program.configure(delete_before_replace=True, inputs=inputs | {"triggers": ["a"]})
    program.up()
    program.configure(inputs=inputs | {"triggers": ["b"]})
    program.up()
    assert lines(log) == ["create", "delete", "create"]


def test_failing_create_leaves_nothing(program: Program) -> None:
    program.configure(inputs={"create": "echo said; exit 3", "delete": "false"})
    outcome = program.up()
    assert outcome.failed
    assert 'exit status 3: running "echo said; exit 3":\nsaid' in outcome.said
    assert "ran" not in program.resources()


def test_failing_update_keeps_the_old_state(program: Program) -> None:
    program.configure(inputs={"create": "echo good"})
    program.up()
    program.configure(inputs={"create": "echo good", "update": "exit 1"})
    assert program.up().failed
    assert program.resources()["ran"]["outputs"]["stdout"] == "good"
    assert "update" not in program.resources()["ran"]["inputs"]


def test_delete_runs_the_recorded_script(program: Program, log: Path) -> None:
    recorded = {
        "create": "true",
        "delete": f"cat >> {log}; echo $X >> {log}",
        "stdin": "old\n",
        "environment": {"X": "x"},
    }
    program.configure(inputs=recorded)
    program.up()
    program.configure(inputs={"create": "true", "delete": "false"})
    assert not program.destroy().failed
    assert lines(log) == ["old", "x"]


def test_failing_delete_keeps_the_resource(program: Program, log: Path) -> None:
    program.configure(inputs={"create": "true", "delete": f"test -e {log}"})
    program.up()
    assert program.destroy().failed
    assert "ran" in program.resources()
    log.touch()
    assert not program.destroy().failed


def test_secrets_stay_out_of_the_state(program: Program) -> None:
    # Our own setting is on disk as it is: what is looked for there is what the command makes of it.
    program.configure(secret=True, inputs={"create": "tr e E", "stdin": "geheimnis", "logging": "none"})
    program.up()
    assert program.outputs()["stdout"] == "gEhEimnis"
    assert "gEhEimnis" not in program.state_text()
    assert is_secret(program.resources()["ran"]["inputs"]["stdin"])


def test_refresh_sees_nothing(program: Program) -> None:
    program.configure(inputs={"create": "echo out"})
    program.up()
    program.refresh()
    assert program.up().steps == {}


def test_megabytes_on_stdin_stdout_and_stderr(program: Program) -> None:
    program.configure(stdin_bytes=5_000_000, inputs={"create": "tee /dev/stderr", "logging": "none"})
    program.up()
    assert program.outputs() == {"stdout": 5_000_000, "stderr": 5_000_000}


def test_stdin_that_nobody_reads(program: Program) -> None:
    program.configure(stdin_bytes=5_000_000, inputs={"create": "exec <&-; echo done"})
    program.up()
    assert program.outputs()["stdout"] == len("done")


def test_dir_and_interpreter(program: Program, tmp_path: Path) -> None:
    program.configure(
        inputs={"create": "import os; print(os.getcwd())", "interpreter": ["python3", "-c"], "dir": str(tmp_path)}
    )
    program.up()
    assert program.outputs()["stdout"] == str(tmp_path)


def test_runs_in_the_programs_folder(program: Program) -> None:
    program.configure(inputs={"create": "pwd; printenv PYTHONPATH || true"})
    program.up()
    assert program.outputs()["stdout"] == str(program.folder)


def test_interrupt_ends_the_command_and_its_children(program: Program, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program.configure(inputs={"create": f"sleep 300 & echo $$ $! > {pids}; wait"})
    with program.running("up", "--yes", "--skip-preview") as engine:
        until(lambda: len(pids.read_text().split()) == 2 if pids.exists() else False, 30, "the command's start")
        engine.send_signal(signal.SIGINT)
        engine.wait(60)
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: not alive(pid), 5, f"the end of {pid}")


@pytest.mark.stand_in
def test_killed_engine_takes_plugin_and_command_along(program: Program, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program.configure(inputs={"create": f"sleep 300 & echo $$ $! > {pids}; wait"})
    with program.running("up", "--yes", "--skip-preview") as engine:
        until(lambda: len(pids.read_text().split()) == 2 if pids.exists() else False, 30, "the command's start")
        below = children(engine.pid)
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait(10)
    plugins = [pid for pid in below if _is_plugin(pid)]
    assert plugins
    for pid in [*plugins, *map(int, pids.read_text().split())]:
        until(lambda pid=pid: not alive(pid), 15, f"the end of {pid}")


def _is_plugin(pid: int) -> bool:
    try:
        return b"pulumi-resource-command" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


@pytest.mark.stand_in
def test_output_that_is_not_logged_is_not_in_the_error(program: Program) -> None:
    program.configure(inputs={"create": "echo confidential; echo reason >&2; exit 1", "logging": "stderr"})
    said = program.up().said
    assert "reason" in said
    assert "confidential\n" not in said.replace('"echo confidential;', "")


@pytest.mark.stand_in
def test_unsupported_inputs_are_errors(program: Program) -> None:
    program.configure(inputs={"create": "true", "asset_paths": ["*"]})
    outcome = program.preview()
    assert outcome.failed
    assert "assetPaths" in outcome.said
    assert "not supported" in outcome.said
