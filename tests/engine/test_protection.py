"""Protected resources: what the engine refuses, in words that `ops` knows, and that it does not once they are not protected any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ops import protection
from ops.engine import REFUSED_BY_PROTECTION
from tests.engine.harness import Program

Start = Callable[[str], Program]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def program(start: Start, log: Path) -> Program:
    """Something protected that leaves a line in the log when it is deleted."""
    made = start("local_command")
    configure(made, log, protect=True)
    assert made.up().steps["ran"] == "create"
    return made


def configure(program: Program, log: Path, *, protect: bool, made_from: str = "this") -> None:
    inputs = {"create": "true", "delete": f"echo deleted >> {log}", "triggers": [made_from]}
    program.configure(inputs=inputs, protect=protect, delete_before_replace=True)


def protected(program: Program) -> list[str]:
    return [urn.rpartition("::")[2] for urn in protection.protected({"resources": list(program.resources().values())})]


def test_it_is_not_destroyed_before_it_is_not_protected_any_more(program: Program, log: Path) -> None:
    assert protected(program) == ["ran"]
    refused = program.destroy()
    assert refused.failed and REFUSED_BY_PROTECTION.search(refused.said)
    assert not log.exists()
    configure(program, log, protect=False)
    assert program.up().steps == {}, "nothing is done but to forget the protection"
    assert protected(program) == []
    assert not program.destroy().failed
    assert log.read_text() == "deleted\n"


def test_a_change_that_would_replace_it_fails_in_the_preview(program: Program, log: Path) -> None:
    configure(program, log, protect=True, made_from="that")
    for refused in (program.preview(), program.up()):
        assert refused.failed and REFUSED_BY_PROTECTION.search(refused.said)
    assert not log.exists()
    configure(program, log, protect=False, made_from="that")
    assert not program.up().failed
    assert log.read_text() == "deleted\n"
