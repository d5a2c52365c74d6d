"""`command.remote.Command` and `command.remote.CopyToRemote`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.harness import Program, is_secret
from tests.engine.ssh_server import ACCEPTED_VARIABLE, SshServer, new_key, public_of

Start = Callable[[str], Program]


@pytest.fixture
def program(start: Start, ssh_server: SshServer) -> Program:
    begun = start("remote_command")
    begun.configure(connection=ssh_server.connection())
    return begun


def test_life_of_a_command(program: Program, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    inputs = {"create": "cat; echo err >&2", "update": "echo updated", "delete": f"cat > {gone}", "stdin": "hello\n"}
    program.configure(inputs=inputs)
    assert program.preview().steps["ran"] == "create"
    assert program.up().steps["ran"] == "create"
    assert program.outputs() == {"stdout": "hello", "stderr": "err"}
    assert program.up().steps == {}
    program.configure(inputs=inputs | {"stdin": "changed"})
    assert program.up().steps["ran"] == "update"
    assert program.outputs()["stdout"] == "updated"
    program.destroy()
    assert gone.read_text() == "changed"


def test_the_connection_is_secret(program: Program) -> None:
    program.configure(inputs={"create": "true"})
    program.up()
    assert is_secret(program.resources()["ran"]["inputs"]["connection"])


def test_connection_defaults_are_no_change(program: Program, ssh_server: SshServer) -> None:
    program.configure(inputs={"create": "true"})
    program.up()
    program.configure(connection=ssh_server.connection(dial_error_limit=10, per_dial_timeout=15))
    assert program.up().steps == {}


def test_triggers_replace(program: Program) -> None:
    program.configure(inputs={"create": "true", "triggers": ["a"]})
    program.up()
    before = program.resources()["ran"]["id"]
    program.configure(inputs={"create": "true", "triggers": ["b"]})
    program.up()
    assert program.resources()["ran"]["id"] != before


def test_failing_create_leaves_nothing(program: Program) -> None:
    program.configure(inputs={"create": "echo said; exit 3"})
    outcome = program.up()
    assert outcome.failed
    assert 'Process exited with status 3: running "echo said; exit 3":\nsaid' in outcome.said
    assert "ran" not in program.resources()


def test_megabytes_both_ways(program: Program) -> None:
    program.configure(stdin_bytes=5_000_000, inputs={"create": "tee /dev/stderr", "logging": "none"})
    program.up()
    assert program.outputs() == {"stdout": 5_000_000, "stderr": 5_000_000}


def test_accepted_environment(program: Program) -> None:
    program.configure(inputs={"create": f"echo ${ACCEPTED_VARIABLE}", "environment": {ACCEPTED_VARIABLE: "value"}})
    program.up()
    assert program.outputs()["stdout"] == "value"


def test_refused_environment_is_an_error(program: Program) -> None:
    program.configure(inputs={"create": "true", "environment": {"REFUSED": "value"}})
    outcome = program.up()
    assert outcome.failed
    assert "REFUSED" in outcome.said
    assert "AcceptEnv" in outcome.said


def test_refused_previous_output_is_no_error(program: Program) -> None:
    program.configure(inputs={"create": "echo out"})
    program.up()
    program.configure(inputs={"create": "echo out", "update": "echo updated"})
    assert not program.up().failed


def test_waits_for_a_machine_that_still_boots(program: Program, ssh_server: SshServer) -> None:
    ssh_server.stop()
    later = threading.Timer(3, ssh_server.serve)
    later.start()
    program.configure(inputs={"create": "echo there"})
    assert not program.up().failed
    later.join()
    assert program.outputs()["stdout"] == "there"


def test_gives_up_after_the_limit(program: Program, ssh_server: SshServer) -> None:
    ssh_server.stop()
    program.configure(connection=ssh_server.connection(dial_error_limit=2), inputs={"create": "true"})
    outcome = program.up()
    assert outcome.failed
    assert "after 2 failed attempts" in outcome.said


def test_another_host_key_is_an_error(program: Program, ssh_server: SshServer, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    wrong = ssh_server.connection(host_key=public_of(new_key()), dial_error_limit=1)
    program.configure(connection=wrong, inputs={"create": f"touch {ran}"})
    outcome = program.up()
    assert outcome.failed
    assert "host key" in outcome.said
    assert ssh_server.logins == 0
    assert not ran.exists()


def test_another_user_key_is_an_error(program: Program, ssh_server: SshServer) -> None:
    key = new_key()
    program.configure(connection=ssh_server.connection(private_key=key, dial_error_limit=1), inputs={"create": "true"})
    outcome = program.up()
    assert outcome.failed
    assert key.splitlines()[1] not in outcome.said


@pytest.mark.stand_in
def test_unsupported_and_bad_connections_are_errors(program: Program, ssh_server: SshServer) -> None:
    bad = ssh_server.connection(agent_socket_path="/nowhere", host_key="nonsense")
    program.configure(connection=bad, inputs={"create": "true"})
    said = program.preview().said
    assert "connection.agentSocketPath" in said
    assert "connection.hostKey" in said
    assert ssh_server.user_key.splitlines()[1] not in said


def test_copies(program: Program, ssh_server: SshServer, tmp_path: Path) -> None:
    local = tmp_path / "local.txt"
    local.write_text("from a file")
    (ssh_server.home / "folder").mkdir()
    program.configure(
        copies={"text": ("text", "from text", "/made/for/it.txt"), "file": ("file", str(local), "/folder")},
    )
    program.up()
    assert (ssh_server.home / "made/for/it.txt").read_text() == "from text"
    assert (ssh_server.home / "folder/local.txt").read_text() == "from a file"
    assert program.up().steps == {}
    local.write_text("changed")
    assert program.up().steps == {"file": "update"}
    assert (ssh_server.home / "folder/local.txt").read_text() == "changed"
    program.destroy()
    assert (ssh_server.home / "made/for/it.txt").exists()
