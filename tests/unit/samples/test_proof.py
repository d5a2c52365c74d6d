"""What counts as proof of traffic, what does not, and what is said then."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from actions import ssh
from actions.kube import ApiObject, Ran
from actions.protocol import Failure, dump_result, parse
from actions.registry import PROVE
from actions.samples import proof
from actions.samples.proof import ProveRequest, Response, identities, prove
from actions.ssh import side_by_side

DOCUMENT: dict[str, Any] = {
    "kubeconfig": "secret",
    "caller": {"namespace": "sample"},
    "calls": [
        {
            "vm": "lab-vm-1",
            "ssh": {"host": "10.89.1.21", "user": "ubuntu", "private_key": "secret", "host_key": "ssh-ed25519 AAAA"},
            "workload_entry": "app-1",
            "pod_to_vm": "http://app.vmns.svc:8000",
            "vm_to_mesh": "http://helloworld.sample.svc:5000",
        }
    ],
    "timeout_seconds": 0.01,
}
POD = "spiffe://cluster.local/ns/sample/sa/curl"
VM = "spiffe://cluster.local/ns/vmns/sa/app-sa"
HELLO = "spiffe://cluster.local/ns/sample/sa/helloworld-v1"


def forwarded(by: str, uri: str) -> str:
    return f'By={by};Hash=0a1b;Subject="";URI={uri}'


def http(status: int, body: str, *headers: str) -> str:
    return "\r\n".join([f"HTTP/1.1 {status} …", *headers, "", body])


def series(*responses: str) -> str:
    """As curl prints several calls."""
    return "".join(f"{response}\x1e" for response in responses)


def echo(xfcc: str | None, instance: str = "lab-vm-1") -> str:
    """As a VM's sample application answers."""
    headers = {"user-agent": "curl/8", **({"x-forwarded-client-cert": xfcc} if xfcc else {})}
    return http(200, json.dumps(headers), "server: envoy", f"X-Instance: {instance}")


def go_echo(xfcc: str) -> str:
    """As a Go server's header map looks."""
    return http(200, json.dumps({"User-Agent": ["curl/8"], "X-Forwarded-Client-Cert": [xfcc]}), "server: envoy")


class FakeCluster:
    def __init__(self, answer: str = "", exit_code: int = 0, stderr: str = "") -> None:
        self.answer = Ran(exit_code, answer or echo(forwarded(VM, POD)), stderr)
        self.phase = "Running"
        self.entry: ApiObject | None = {"spec": {"serviceAccount": "app-sa"}}
        self.commands: list[Sequence[str]] = []

    def get(self, path: str) -> ApiObject | None:
        assert path == "/apis/networking.istio.io/v1/namespaces/vmns/workloadentries/app-1"
        return self.entry

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        assert (path, selector) == ("/api/v1/namespaces/sample/pods", "app=curl")
        return [
            {"metadata": {"name": "curl-1"}, "spec": {"serviceAccountName": "curl"}, "status": {"phase": self.phase}}
        ]

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        assert (namespace, pod, container) == ("sample", "curl-1", "curl")
        self.commands.append(command)
        return self.answer

    create = delete = get  # type: ignore[assignment]


class FakeVm:
    """Stands for `ssh.connect` and its session; answers by path, `/hello` or `/headers`."""

    def __init__(self, hello: str = http(200, "Hello version: v1", "server: envoy"), headers: str = "") -> None:
        self.answers = {"/hello": hello, "/headers": headers or go_echo(forwarded(HELLO, VM))}
        self.scripts: list[str] = []

    def __call__(self, *_: Any) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, script: str, timeout: float, as_root: bool) -> str:
        assert not as_root
        self.scripts.append(script)
        answer = next(answer for path, answer in self.answers.items() if f"{path}?" in script)
        if answer.startswith("curl:"):
            raise ssh.CommandError(answer, 6)
        return answer


class Path(BaseHTTPRequestHandler):
    """Answers with the path it was asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serving() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Path) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def run(cluster: FakeCluster, vm: FakeVm, lines: list[str] | None = None) -> list[dict[str, Any]]:
    progress = lines.append if lines is not None else lambda _: None
    return json.loads(
        dump_result(PROVE, prove(parse(ProveRequest, json.dumps(DOCUMENT)), cluster, progress, vm, lambda _: None))
    )


def test_both_ways_are_proven_by_both_identities() -> None:
    cluster, lines = FakeCluster(), list[str]()
    there, back = run(cluster, FakeVm(), lines)
    assert (there["proof"], there["client_identity"], there["server_identity"]) == ("mutual-tls", POD, VM)
    assert (back["proof"], back["client_identity"], back["server_identity"]) == ("mutual-tls", VM, HELLO)
    assert back["body"] == "Hello version: v1"
    assert (there["url"], there["instance"]) == ("http://app.vmns.svc:8000/headers", "lab-vm-1")
    assert lines == ["pod → lab-vm-1: 200, mutual-tls", "lab-vm-1 → pods: 200, mutual-tls"]


def test_pods_that_do_not_echo_leave_the_weaker_proof() -> None:
    _, back = run(FakeCluster(), FakeVm(headers=http(404, "not found", "x-envoy-upstream-service-time: 2")))
    assert (back["proof"], back["status"], back["client_identity"]) == ("proxied", 200, None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (echo(None), "not told who called: no mutual TLS"),
        (echo(forwarded(VM, "spiffe://cluster.local/ns/other/sa/curl")), "ns/other/sa/curl called"),
        (echo(forwarded("spiffe://cluster.local/ns/vmns/sa/other", POD)), "should have called …/ns/vmns/sa/app-sa"),
        (http(503, "no healthy upstream", "server: envoy"), "503: no healthy endpoint"),
        (http(403, "RBAC: access denied", "server: envoy"), "403: refused: look at the AuthorizationPolicies"),
        (http(200, "hello", "X-Instance: lab-vm-1"), "(no sidecar was in between)"),
        ("garbage", "the answer is not HTTP"),
    ],
)
def test_what_is_no_proof_from_the_pod(answer: str, reason: str) -> None:
    with pytest.raises(Failure) as failure:
        run(FakeCluster(answer), FakeVm())
    assert str(failure.value).startswith("1 call(s) failed")
    assert reason in str(failure.value)


def test_one_curl_makes_every_call_of_a_service() -> None:
    cluster, vm = FakeCluster(), FakeVm()
    run(cluster, vm)
    (command,) = cluster.commands
    assert command[-1] == "http://app.vmns.svc:8000/headers?call=[1-20]"
    assert [re.findall(r"http://[^')]+", script) for script in vm.scripts] == [
        ["http://helloworld.sample.svc:5000/hello?call=[1-2]"],
        ["http://helloworld.sample.svc:5000/headers?call=[1-2]"],
    ]


def test_a_vm_calls_over_many_connections() -> None:
    """As through a gateway each connection leads to one endpoint for good."""
    with serving() as url:
        script = side_by_side(shlex.join(proof._curl(f"{url}/hello", 2)), proof.STREAMS)
        ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    answers = Response.parse_all(ran.stdout)
    assert sorted(answer.body for answer in answers) == sorted(["/hello?call=1", "/hello?call=2"] * proof.STREAMS)
    assert ran.returncode == 0


def test_a_vm_whose_call_fails_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    script = side_by_side(shlex.join(proof._curl(url, 2)), proof.STREAMS)
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 7
    assert "Failed to connect" in ran.stderr


def test_real_curl_prints_what_is_read() -> None:
    """The words of curl against a server of our own."""
    with serving() as url:
        ran = subprocess.run(proof._curl(f"{url}/hello"), capture_output=True, text=True, timeout=60)
    answers = Response.parse_all(ran.stdout)
    assert [answer.body for answer in answers] == [f"/hello?call={number}" for number in range(1, 21)]
    assert ran.returncode == 0


def test_a_call_without_an_answer_ends_the_series() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    ran = subprocess.run(proof._curl(url), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 7
    assert ran.stderr.count("curl:") == 1


def test_of_a_service_over_pods_and_machines_the_machines_own_answer_counts() -> None:
    pod, another = go_echo(forwarded(HELLO, POD)), echo(forwarded("spiffe://other", POD), "lab-vm-2")
    there, _ = run(FakeCluster(series(pod, another, pod, echo(forwarded(VM, POD)), another)), FakeVm())
    assert (there["instance"], there["server_identity"]) == ("lab-vm-1", VM)


def test_a_machine_that_gets_no_call_of_its_service_is_not_proven() -> None:
    others = [go_echo(forwarded(HELLO, POD)), echo(forwarded(VM, POD), "lab-vm-2")] * 10
    with pytest.raises(Failure, match="lab-vm-1 gave none of 20 answers"):
        run(FakeCluster(series(*others)), FakeVm())


def test_a_machine_is_proven_by_an_answer_of_a_pod() -> None:
    own = http(200, "Hello version: vm", "server: envoy", "X-Instance: lab-vm-1")
    busy = http(503, "no healthy upstream", "server: envoy")
    hello = series(own, busy, http(200, "Hello version: v2", "server: envoy"))
    headers = series(echo(forwarded(VM, VM)), busy, go_echo(forwarded(HELLO, VM)))
    _, back = run(FakeCluster(), FakeVm(hello, headers))
    assert (back["body"], back["server_identity"], back["instance"]) == ("Hello version: v2", HELLO, None)


def test_a_machine_that_only_reaches_itself_is_not_proven() -> None:
    own = http(200, "Hello version: vm", "server: envoy", "X-Instance: lab-vm-1")
    with pytest.raises(Failure, match="a pod gave none of 3 answers"):
        run(FakeCluster(), FakeVm(series(own, own, own)))


def test_every_failed_call_is_named() -> None:
    cluster = FakeCluster(exit_code=6, stderr="curl: (6) Could not resolve host: app.vmns.svc")
    with pytest.raises(Failure) as failure:
        run(cluster, FakeVm(hello="curl: (7) refused"))
    assert "2 call(s) failed" in str(failure.value)
    assert "pod → lab-vm-1: http://app.vmns.svc:8000/headers: curl: (6) Could not resolve host" in str(failure.value)
    assert "lab-vm-1 → pods: curl: (7) refused" in str(failure.value)
    assert "secret" not in str(failure.value)


def test_a_caller_that_does_not_run_is_the_reason() -> None:
    cluster = FakeCluster()
    cluster.phase = "Pending"
    with pytest.raises(Failure, match="no pod with app=curl runs in namespace sample"):
        run(cluster, FakeVm())


def test_a_member_that_left_is_the_reason() -> None:
    cluster = FakeCluster()
    cluster.entry = None
    with pytest.raises(Failure, match="WorkloadEntry vmns/app-1 is gone"):
        run(cluster, FakeVm())


def test_the_vms_own_identity_is_asked_for() -> None:
    with pytest.raises(Failure, match=r"lab-vm-1 → pods: .*ns/vmns/sa/intruder called"):
        run(FakeCluster(), FakeVm(headers=go_echo(forwarded(HELLO, "spiffe://cluster.local/ns/vmns/sa/intruder"))))


def test_the_nearest_sidecars_word_counts() -> None:
    assert identities(f"{forwarded('a', 'b')},{forwarded('c', 'd')}") == ("c", "d")
    assert identities("") == (None, None)


def test_headers_below_a_key_are_read_too() -> None:
    body = json.dumps({"headers": {"User-Agent": "curl", "X-Forwarded-Client-Cert": ["x"]}})
    assert Response.parse(http(200, body)).echo == {"user-agent": "curl", "x-forwarded-client-cert": "x"}


def test_a_url_with_a_path_is_refused() -> None:
    call = {**DOCUMENT["calls"][0], "pod_to_vm": "http://app.vmns.svc:8000/; rm"}
    with pytest.raises(Failure, match=r"calls\.0\.pod_to_vm"):
        parse(ProveRequest, json.dumps({**DOCUMENT, "calls": [call]}))
