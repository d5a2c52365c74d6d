"""curl's words and what it prints, against a server of our own; DNS messages; the report; the command line."""

from __future__ import annotations

import io
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from components.command_line import Failure
from verify import __main__ as command_line
from verify import resolve
from verify.calls import RESET, Answer, VmCaller, answers, command, longest, tally
from verify.checks import Check
from verify.finding import found, not_asked
from verify.report import Result, as_document, show


class Hello(BaseHTTPRequestHandler):
    """Answers as the samples do; a query with `fail` in it is refused."""

    def do_GET(self) -> None:
        failing = "fail" in self.path or self.headers.get("x-fail")
        body = b"refused" if failing else b"Hello version: vm, instance: vm-1\n"
        self.send_response(403 if failing else 200)
        self.send_header("X-Instance", "vm-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()


def curl(url: str, count: int = 1, headers: dict[str, str] | None = None, per_second: int = 0) -> list[Answer]:
    ran = subprocess.run(command(url, count, headers or {}, per_second, 2), capture_output=True, text=True, timeout=60)
    return answers(ran.stdout, ran.stderr)


def test_a_series_is_read_call_by_call(server: str) -> None:
    seen = curl(f"{server}/hello", count=5)
    assert [(a.status, a.version, a.instance, a.exit_code) for a in seen] == [(200, "vm", "vm-1", 0)] * 5
    assert seen[0].connected
    assert tally(seen) == "5x vm-1"


def test_headers_and_queries_arrive(server: str) -> None:
    assert [str(answer) for answer in curl(f"{server}/hello?fail", count=2)] == ["403", "403"]
    assert curl(f"{server}/hello", headers={"x-fail": "yes"})[0].body == "refused"
    assert tally(curl(f"{server}/hello") + curl(f"{server}/?fail")) == "1x 403, 1x vm-1"


def test_a_pace_is_kept(server: str) -> None:
    assert len(curl(f"{server}/hello", count=3, per_second=50)) == 3
    assert longest(200, 20, 5) == 15 + 10 + 50


def test_what_gets_no_answer_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (answer,) = curl(f"http://127.0.0.1:{port}/")
    assert (answer.status, answer.connected, answer.exit_code, answer.ok) == (0, False, 7, False)
    assert "Failed to connect" in str(answer)


def test_a_reset_is_told_from_a_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reset() -> None:
            connection, _ = listening.accept()
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        threading.Thread(target=reset, daemon=True).start()
        (answer,) = curl(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    assert (answer.exit_code, answer.connected) == (RESET, True)


def test_what_is_not_curl_is_an_error() -> None:
    with pytest.raises(Failure, match="curl: not found"):
        answers("", "sh: curl: not found")


def test_a_vm_calls_as_somebody_whose_packets_are_captured_or_not(server: str) -> None:
    scripts: list[str] = []

    class Shell:
        def run(self, script: str, stdin: bytes | None = None, timeout: float = 0) -> str:
            scripts.append(script)
            own = script.replace("--reuid=nobody --regid=nogroup --clear-groups", "--nnp")
            return subprocess.run(["bash", "-c", own], capture_output=True, text=True, timeout=60).stdout

    shell: Any = Shell()
    assert len(VmCaller("vm", shell).call(f"{server}/hello", count=2)) == 2
    assert "--reuid=nobody " in scripts[-1]
    seen = VmCaller("vm", shell).call_side_by_side(f"{server}/hello", streams=6, count=2)
    assert tally(seen) == "12x vm-1"


# ------------------------------------------------------------------ DNS, RFC 1035


def reply(records: list[tuple[int, bytes]], code: int = 0) -> bytes:
    """An answer to a question for `a.bc` whose records point back to the question's name."""
    head = struct.pack("!6H", 7, 0x8180 | code, 1, len(records), 0, 0)
    question = b"\x01a\x02bc\x00" + struct.pack("!HH", 1, 1)
    return head + question + b"".join(b"\xc0\x0c" + struct.pack("!HHIH", k, 1, 30, len(d)) + d for k, d in records)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (reply([(1, bytes([10, 43, 0, 1]))]), ["10.43.0.1"]),
        (
            reply([(5, b"\x01b\xc0\x0e"), (1, bytes([10, 0, 0, 2])), (1, bytes([10, 0, 0, 1]))]),
            ["10.0.0.2", "10.0.0.1"],
        ),
        (reply([(28, bytes(16))]), []),
        (reply([], code=3), []),
    ],
)
def test_addresses_of_an_answer(message: bytes, expected: list[str]) -> None:
    assert resolve.addresses(message) == expected


def test_a_question_is_asked_over_udp(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind(("127.0.0.1", 0))
        asked: list[bytes] = []

        def answer() -> None:
            message, sender = serving.recvfrom(512)
            asked.append(message)
            serving.sendto(reply([(1, bytes([10, 9, 8, 7]))]), sender)

        threading.Thread(target=answer, daemon=True).start()
        connect = socket.socket.connect
        monkeypatch.setattr(resolve, "server", lambda: "127.0.0.1")
        monkeypatch.setattr(
            resolve.socket.socket, "connect", lambda self, _: connect(self, serving.getsockname()), raising=True
        )
        assert resolve.resolve("a.bc") == ["10.9.8.7"]
    assert asked[0][12:] == b"\x01a\x02bc\x00" + struct.pack("!HH", 1, 1)


# ------------------------------------------------------------------ report and command line


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
