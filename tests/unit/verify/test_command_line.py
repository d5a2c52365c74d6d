"""The command line of the checks, and the report."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from actions.protocol import Failure
from actions.ssh import SshError
from commands import __main__ as command_line
from commands import context
from commands import verify as command
from ops.errors import OpsError
from ops.workspace import ROOT
from tests.unit.ops.test_status import HARMS
from verify.checks import CHECKS, Check, standing
from verify.finding import Verdict, found, not_asked
from verify.report import Result, as_document, show

GOOD, BAD, NONE = found("w1", "h1", "e1", True), found("w2", "h2", "e2", False), not_asked("w3", "x.y")


def check(name: str, *findings: Any, error: BaseException | None = None, disturbs: str = "") -> Check:
    def run(env: Any) -> Iterator[Any]:
        yield from findings
        if error:
            raise error

    return Check(name, f"promise of {name}", run, disturbs)


# ------------------------------------------------------------------ the report


def test_the_document_has_every_finding() -> None:
    results = [Result(check("a"), [GOOD, NONE], 1.04), Result(check("b"), [BAD], 2.03)]
    assert as_document("lab", results) == {
        "stack": "lab",
        "passed": False,
        "seconds": 3.1,
        "checks": [
            {
                "name": "a",
                "title": "promise of a",
                "passed": True,
                "seconds": 1.0,
                "findings": [
                    {"what": "w1", "how": "h1", "evidence": "e1", "verdict": "holds"},
                    {"what": "w3", "how": "", "evidence": "x.y is not set", "verdict": "not asked for"},
                ],
            },
            {
                "name": "b",
                "title": "promise of b",
                "passed": False,
                "seconds": 2.0,
                "findings": [{"what": "w2", "how": "h2", "evidence": "e2", "verdict": "FAILS"}],
            },
        ],
    }


def shown(*results: Result) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    show("lab", results, console)
    return console.export_text()


def test_the_table_has_every_finding_and_what_failed() -> None:
    table = shown(Result(check("a"), [GOOD, NONE], 1.0), Result(check("b"), [BAD], 2.0), Result(check("c"), [BAD], 2.0))
    rows = [line.split() for line in table.splitlines()]
    assert ["w1", "h1", "e1", "holds"] in rows
    assert ["w2", "h2", "e2", "FAILS"] in rows
    assert ["w3", "x.y", "is", "not", "set", "not", "asked", "for"] in rows
    assert ["a:", "promise", "of", "a", "1.0", "s"] in rows
    assert table.rstrip().endswith("4 findings of 3 checks in 5 s: failed: b, c")


def test_a_table_without_failures_says_that_all_is_well() -> None:
    assert shown(Result(check("a"), [GOOD, NONE], 1.0)).rstrip().endswith("all promises hold")


def test_a_long_finding_is_folded_and_markup_in_it_is_text() -> None:
    words = " ".join(f"[bold]{number}[/]" for number in range(60))
    table = shown(Result(check("a"), [found("w", "h", words, True)], 1.0))
    assert all(f"[bold]{number}[/]" in table for number in range(60))


# ------------------------------------------------------------------ the command line


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """The command line on a stack that is up, with these checks."""
    checks: list[Check] = []

    class Opened:
        def __enter__(self) -> Any:
            return SimpleNamespace()

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(command, "CHECKS", checks)
    monkeypatch.setattr(context.workspace, "choose_stack", lambda _: ("lab", "asked"))
    monkeypatch.setattr(
        context.Stack, "find", lambda name: SimpleNamespace(name=name, deployment=dict, pulumi=lambda *_: "[]")
    )
    monkeypatch.setattr(context.state, "outputs", lambda deployment: {"vms": {}})
    monkeypatch.setattr(command.Environment, "of", lambda *_: Opened())
    monkeypatch.setattr(command_line.sys, "argv", ["istio-vms", "verify"])
    return checks


Output = pytest.CaptureFixture[str]


def run(monkeypatch: pytest.MonkeyPatch, arguments: str) -> int:
    monkeypatch.setenv("ARGS", arguments)
    return command_line.main()


def test_json_alone_is_on_stdout(stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    stack += [check("a", GOOD), check("b", BAD)]
    assert run(monkeypatch, "--json") == 1
    printed = capsys.readouterr()
    assert [c["passed"] for c in json.loads(printed.out)["checks"]] == [True, False]
    assert [line.split()[:2] for line in printed.err.splitlines()] == [["a", "holds"], ["b", "FAILS"]]


def test_the_table_is_on_stdout_and_progress_on_stderr(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    stack += [check("a", GOOD), check("b", NONE)]
    assert run(monkeypatch, "") == 0
    printed = capsys.readouterr()
    assert "stack lab" in printed.out
    assert printed.out.rstrip().endswith("2 findings of 2 checks in 0 s: all promises hold")
    assert "promise of b" in printed.err


def test_arguments_of_the_process_come_before_those_of_make(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    stack += [check("a", GOOD), check("b", BAD)]
    monkeypatch.setattr(command_line.sys, "argv", ["istio-vms", "verify", "--only", "a"])
    assert run(monkeypatch, "--only b") == 0


@pytest.mark.parametrize("error", [Failure("the VM is gone"), SshError("the VM is gone")])
def test_a_check_that_breaks_off_keeps_what_it_found(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output, error: Exception
) -> None:
    stack += [check("a", GOOD, error=error), check("b", GOOD)]
    assert run(monkeypatch, "--json") == 1
    first, second = json.loads(capsys.readouterr().out)["checks"]
    assert [(f["evidence"], f["verdict"]) for f in first["findings"]] == [("e1", "holds"), ("the VM is gone", "FAILS")]
    assert second["passed"]


def test_a_check_that_has_nothing_to_look_at_does_not_hold(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    stack += [check("a")]
    assert run(monkeypatch, "--json") == 0
    (finding,) = json.loads(capsys.readouterr().out)["checks"][0]["findings"]
    assert (finding["what"], finding["verdict"]) == ("promise of a", Verdict.NOT_ASKED)


def test_an_interrupt_lets_a_check_clean_up(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    stopped = ["the application"]

    def interrupted(env: Any) -> Iterator[Any]:
        try:
            yield GOOD
            raise KeyboardInterrupt
        finally:
            stopped.clear()

    stack += [Check("a", "p", interrupted), check("b", GOOD)]
    assert run(monkeypatch, "--json") == 130
    printed = capsys.readouterr()
    assert (stopped, printed.out) == ([], "")
    assert "interrupted" in printed.err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("", ["a", "b", "c"]),
        ("--only c,a", ["a", "c"]),
        ("--calm", ["a", "c"]),
        ("--calm --only a,b", ["a"]),
    ],
)
def test_only_some_checks_run(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output, arguments: str, names: list[str]
) -> None:
    stack += [check("a", GOOD), check("b", GOOD, disturbs="a VM"), check("c", GOOD)]
    assert run(monkeypatch, f"--json {arguments}") == 0
    assert [c["name"] for c in json.loads(capsys.readouterr().out)["checks"]] == names


def test_the_list_says_what_is_disturbed_and_runs_nothing(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    stack += [check("a", BAD), check("b", BAD, disturbs="a VM")]
    assert run(monkeypatch, "--list") == 0
    printed = capsys.readouterr()
    assert [line.split(maxsplit=1) for line in printed.out.splitlines()] == [
        ["a", "promise of a"],
        ["b", "promise of b (disturbs a VM)"],
    ]
    assert not printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--only a,nope", "no such check: nope; there are a, b"),
        ("--only ''", "no such check: ; there are a, b"),
        ("--only 'a", "ARGS: No closing quotation"),
        ("--calm --only b", "--calm leaves nothing of --only b"),
        ("--all", "No such option: --all"),
    ],
)
def test_wrong_arguments_are_told(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output, arguments: str, said: str
) -> None:
    stack += [check("a", GOOD), check("b", GOOD, disturbs="a VM")]
    assert run(monkeypatch, arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_a_stack_that_is_not_up_is_told(stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    stack += [check("a", GOOD)]
    monkeypatch.setattr(context.state, "outputs", lambda deployment: {})
    assert run(monkeypatch, "--json") == 1
    printed = capsys.readouterr()
    assert "make up STACK=lab" in printed.err
    assert not printed.out


@pytest.mark.parametrize("error", [OpsError("what [happened]"), Failure("what [happened]")])
def test_what_goes_wrong_before_the_first_check_is_told(
    stack: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: Output, error: Exception
) -> None:
    def of(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(command.Environment, "of", of)
    assert run(monkeypatch, "") == 1
    assert capsys.readouterr().err == "error: what [happened]\n"


def test_checks_have_names_of_their_own_that_fit_their_column() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(len(name) < 15 and "," not in name for name in names)


def test_what_every_check_shows_is_described() -> None:
    text = (ROOT / "docs/promises.md").read_text()
    headings = " ".join(line for line in text.splitlines() if line.startswith("## "))
    assert [check.name for check in CHECKS if f"`{check.name}`" not in headings] == []


def test_every_finding_of_status_breaks_a_promise_of_its_own() -> None:
    named = [kind for kinds in standing.PROMISES.values() for kind in kinds]
    assert sorted(named) == sorted({"not-known", *(kind for _, expected, _ in HARMS for kind, _ in expected)})
