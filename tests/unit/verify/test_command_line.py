"""The command line of the checks, and the report."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from components.command_line import Failure
from verify import __main__ as command_line
from verify.checks import Check
from verify.finding import found, not_asked
from verify.report import Result, as_document, show


def check(name: str, *findings: Any, error: Exception | None = None) -> Check:
    def run(env: Any) -> Iterator[Any]:
        yield from findings
        if error:
            raise error

    return Check(name, f"promise of {name}", run)


GOOD, BAD = found("w1", "h1", "e1", True), found("w2", "h2", "e2", False)


def test_the_report_has_every_finding() -> None:
    results = [Result(check("a"), [GOOD, not_asked("w3", "x.y")], 1.0), Result(check("b"), [BAD], 2.0)]
    document = as_document("lab", results)
    assert (document["passed"], document["seconds"]) == (False, 3.0)
    verdicts = [(f["what"], f["verdict"]) for c in document["checks"] for f in c["findings"]]
    assert verdicts == [("w1", "holds"), ("w3", "not asked for"), ("w2", "FAILS")]
    console = Console(width=160, record=True, file=io.StringIO())
    show("lab", results, console)
    shown = console.export_text()
    assert all(text in shown for text in ("w1", "h1", "e1", "w2", "e2", "x.y is not set", "failed: b"))


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """The command line on a stack that is up, with these checks."""
    checks: list[Check] = []
    env = SimpleNamespace()

    class Opened:
        def __enter__(self) -> Any:
            return env

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(command_line, "CHECKS", checks)
    monkeypatch.setattr(command_line, "choose_stack", lambda: ("lab", "asked"))
    monkeypatch.setattr(command_line.Stack, "find", lambda name: SimpleNamespace(name=name, deployment=dict))
    monkeypatch.setattr(command_line.state, "outputs", lambda deployment: {"vms": {}})
    monkeypatch.setattr(command_line.Environment, "of", lambda *_: Opened())
    monkeypatch.setattr(command_line.sys, "argv", ["verify"])
    return checks


def test_json_alone_is_on_stdout(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack += [check("a", GOOD), check("b", BAD)]
    monkeypatch.setenv("ARGS", "--json")
    assert command_line.main() == 1
    printed = capsys.readouterr()
    assert [c["passed"] for c in json.loads(printed.out)["checks"]] == [True, False]
    assert "promise of b" in printed.err


def test_a_check_that_breaks_off_keeps_what_it_found(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack += [check("a", GOOD, error=Failure("the VM is gone")), check("b", GOOD)]
    monkeypatch.setenv("ARGS", "--json")
    assert command_line.main() == 1
    first, second = json.loads(capsys.readouterr().out)["checks"]
    assert [(f["evidence"], f["verdict"]) for f in first["findings"]] == [("e1", "holds"), ("the VM is gone", "FAILS")]
    assert second["passed"]


def test_only_some_checks_run(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack += [check("a", GOOD), Check("b", "p", lambda env: iter([BAD]), "a VM"), check("c", BAD)]
    for arguments, expected in (("--only a", {"a"}), ("--calm --only a,b", {"a"}), ("--only a,b", {"a", "b"})):
        monkeypatch.setenv("ARGS", f"--json {arguments}")
        code = command_line.main()
        document = json.loads(capsys.readouterr().out)
        assert {c["name"] for c in document["checks"]} == expected
        assert (code == 0) == document["passed"]
    monkeypatch.setenv("ARGS", "--list")
    assert command_line.main() == 0
    assert "disturbs a VM" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [("--only a,nope", "no such check: nope"), ("--only 'a", "quotation")])
def test_wrong_arguments_are_told(
    stack: list[Check],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    said: str,
) -> None:
    stack += [check("a", GOOD)]
    monkeypatch.setenv("ARGS", arguments)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_stack_that_is_not_up_is_told(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line.state, "outputs", lambda deployment: {})
    monkeypatch.setenv("ARGS", "")
    assert command_line.main() == 1
    assert "make up STACK=lab" in capsys.readouterr().err
