"""curl's words and what it prints, with a real curl against servers of our own."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from actions.kube import Ran
from actions.protocol import Failure
from verify.calls import EMPTY, REFUSED, RESET, TIMED_OUT, Answer, PodCaller, VmCaller, answers, command, longest, tally

BODIES = {
    "/hello": (200, b"Hello version: vm, instance: vm-1\n"),
    "/pod": (200, b"Hello version: v1, instance: helloworld-v1-a\n"),
    "/lines": (200, b"\nfirst\n\nlast"),
    "/empty": (200, b""),
    "/refused": (403, b"RBAC: access denied"),
}


class Hello(BaseHTTPRequestHandler):
    """Answers as the samples do; only a VM says in a header who it is. `/headers` echoes, `/short` ends too early, `/late` never ends."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        told = json.dumps({**self.headers, "path": self.path}).encode()
        status, body = BODIES.get(path, (200, told))
        self.send_response(status)
        if path == "/hello":
            self.send_header("X-Instance", "vm-1")
        self.send_header("Content-Length", str(len(body) + (path in ("/short", "/late"))))
        self.end_headers()
        self.wfile.write(body)
        if path == "/late":
            self.wfile.flush()
            self.rfile.read(1)
        self.close_connection = path in ("/short", "/late")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as made:
        made.daemon_threads = True
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()


def curl(
    url: str, count: int = 1, headers: Mapping[str, str] | None = None, per_second: int = 0, seconds: int = 5
) -> list[Answer]:
    words = command(url, count, headers or {}, per_second, seconds)
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return answers(ran.stdout, ran.stderr)


def test_a_series_is_read_call_by_call(server: str) -> None:
    seen = curl(f"{server}/hello", count=5)
    assert [(a.status, a.version, a.instance, a.exit_code, a.error) for a in seen] == [(200, "vm", "vm-1", 0, "")] * 5
    assert [answer.connected for answer in seen] == [True, False, False, False, False]
    assert all(0 < answer.seconds < 5 for answer in seen)


def test_a_pod_says_who_it_is_in_the_body_only(server: str) -> None:
    (answer,) = curl(f"{server}/pod")
    assert (answer.header, answer.version, answer.instance) == ("", "v1", "helloworld-v1-a")


@pytest.mark.parametrize("path", ["/lines", "/empty", "/refused"])
def test_a_body_is_read_as_it_is(server: str, path: str) -> None:
    status, body = BODIES[path]
    seen = curl(server + path, count=3)
    assert [(answer.status, answer.body) for answer in seen] == [(status, body.decode())] * 3
    assert [(answer.version, answer.instance) for answer in seen] == [("", "")] * 3


def test_every_call_of_a_series_has_a_number_and_the_headers(server: str) -> None:
    seen = [json.loads(answer.body) for answer in curl(f"{server}/headers", count=3, headers={"x-a": "b c", "d": "e"})]
    assert [told["path"] for told in seen] == [f"/headers?call={number}" for number in (1, 2, 3)]
    assert all((told["x-a"], told["d"]) == ("b c", "e") for told in seen)


def test_a_query_is_kept(server: str) -> None:
    assert json.loads(curl(f"{server}/headers?word")[0].body)["path"] == "/headers?word"
    assert json.loads(curl(f"{server}/headers?a={{b}}")[0].body)["path"] == "/headers?a={b}"
    assert json.loads(curl(f"{server}/headers?word", count=2)[1].body)["path"] == "/headers?word&call=2"


def test_a_tally_says_who_answered_and_what_failed(server: str) -> None:
    seen = [answer for path in ("/hello", "/refused", "/pod", "/empty") for answer in curl(server + path, count=2)]
    assert tally(seen) == "2x 200, 2x 403, 2x helloworld-v1-a, 2x vm-1"


def test_a_pace_is_kept(server: str) -> None:
    started = time.monotonic()
    assert len(curl(f"{server}/hello", count=4, per_second=20)) == 4
    assert time.monotonic() - started >= 3 / 20


@pytest.mark.parametrize(
    ("series", "seconds"), [((1, 0, 5), 15 + 5), ((300, 0, 5), 15 + 50), ((200, 20, 3), 15 + 10 + 30)]
)
def test_a_series_has_time_for_its_pauses_and_for_calls_that_take_all_theirs(
    series: tuple[int, int, int], seconds: float
) -> None:
    assert longest(*series) == seconds


def test_nobody_listening_is_a_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (answer,) = curl(f"http://127.0.0.1:{port}/")
    assert (answer.status, answer.connected, answer.exit_code, answer.ok) == (0, False, REFUSED, False)
    assert "Failed to connect" in str(answer)


@pytest.mark.parametrize(("linger", "code"), [(True, RESET), (False, EMPTY)])
def test_a_connection_that_is_reset_or_closed_was_one(linger: bool, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def end() -> None:
            connection, _ = listening.accept()
            connection.recv(4096)
            if linger:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        threading.Thread(target=end, daemon=True).start()
        (answer,) = curl(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    assert (answer.status, answer.exit_code, answer.connected) == (0, code, True)


def test_silence_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (answer,) = curl(f"http://127.0.0.1:{listening.getsockname()[1]}/", seconds=1)
    assert (answer.status, answer.exit_code, answer.ok) == (0, TIMED_OUT, False)
    assert answer.seconds >= 1


@pytest.mark.parametrize(("path", "said"), [("/short", "1 bytes"), ("/late", "timed out")])
def test_half_an_answer_is_none(server: str, path: str, said: str) -> None:
    (answer,) = curl(server + path, seconds=1)
    assert (answer.status, answer.ok) == (200, False)
    assert said in tally([answer])


@pytest.mark.parametrize(
    ("printed", "errors", "said"),
    [("", "sh: curl: not found\n", "sh: curl: not found"), ("what?\n", "", "what?"), ("", "", "it printed nothing")],
)
def test_what_is_not_curl_is_an_error(printed: str, errors: str, said: str) -> None:
    with pytest.raises(Failure, match=re.escape(said)):
        answers(printed, errors)


def test_a_pod_calls_from_the_container_that_has_curl(server: str) -> None:
    ran: list[tuple[Any, ...]] = []

    class Cluster:
        def run(self, *where: Any) -> Ran:
            ran.append(where)
            done = subprocess.run(where[3], capture_output=True, text=True, timeout=60)
            return Ran(done.returncode, done.stdout, done.stderr)

    cluster: Any = Cluster()
    caller = PodCaller(cluster, "sample", "curl-1", "curl")
    seen = caller.call(f"{server}/headers", count=2, headers={"x-a": "b"}, per_second=50, seconds=3)
    assert [json.loads(answer.body)["x-a"] for answer in seen] == ["b", "b"]
    assert [(*where[:3], where[4]) for where in ran] == [("sample", "curl-1", "curl", longest(2, 50, 3))]
    assert caller.name == "pod sample/curl-1"


class Shell:
    """A VM's shell that stays who it is: what would switch users only says so."""

    def __init__(self) -> None:
        self.users: list[str] = []
        self.timeouts: list[float] = []

    def run(self, script: str, stdin: bytes | None = None, timeout: float = 0) -> str:
        self.timeouts.append(timeout)
        setpriv = 'setpriv() { echo "$1" >&2; while [[ $1 == --* ]]; do shift; done; "$@"; }\n'
        ran = subprocess.run(["bash", "-c", setpriv + script], capture_output=True, text=True, timeout=60, check=True)
        self.users += re.findall(r"^--reuid=(\S+)$", ran.stderr, re.MULTILINE)
        return ran.stdout


def test_a_vm_calls_as_somebody_whose_packets_are_captured_or_not(server: str) -> None:
    shell: Any = Shell()
    seen = VmCaller("vm", shell).call(f"{server}/headers", count=2, headers={"x-a": "it's $HOME"}, seconds=3)
    seen += VmCaller("vm", shell, "istio-proxy").call(f"{server}/headers?word", headers={"x-a": "it's $HOME"})
    told = [json.loads(answer.body) for answer in seen]
    assert [one["path"] for one in told] == ["/headers?call=1", "/headers?call=2", "/headers?word"]
    assert {one["x-a"] for one in told} == {"it's $HOME"}
    assert shell.users == ["nobody", "istio-proxy"]
    assert shell.timeouts == [longest(2, 0, 3), longest(1, 0, 5)]


def test_a_vm_calls_on_when_curl_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    shell: Any = Shell()
    seen = VmCaller("vm", shell).call(f"http://127.0.0.1:{port}/", count=2)
    assert [answer.exit_code for answer in seen] == [REFUSED, REFUSED]


def test_calls_side_by_side_have_connections_of_their_own(server: str) -> None:
    shell: Any = Shell()
    seen = VmCaller("vm", shell).call_side_by_side(f"{server}/hello", streams=6, count=2)
    assert tally(seen) == "12x vm-1"
    assert [answer.connected for answer in seen] == [True, False] * 6
    assert shell.users == ["nobody"] * 6
