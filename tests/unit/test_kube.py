"""The Kubernetes helper against a server on loopback that answers as the API would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from components.command_line import Deadline
from components.kube import ApiCluster, KubeError, Unreachable, token, wait

PODS = "/api/v1/namespaces/n/pods"


class Api(BaseHTTPRequestHandler):
    """Knows a handful of paths."""

    seen: list[tuple[str, str, str, str]]
    all_of_them = threading.Barrier(20, timeout=10)

    def answer(self) -> None:
        if self.path == "/together":
            self.all_of_them.wait()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.seen.append((self.command, self.path, self.headers.get("Authorization", ""), body))
        status, document = {
            "/thing": (200, '{"metadata": {"name": "thing"}}'),
            "/together": (200, "{}"),
            "/things?labelSelector=app%3Dx%2Cb%3Dy": (200, '{"items": [{"a": 1}]}'),
            "/refused": (403, '{"message": "no rights"}'),
            "/starting": (503, '{"message": "apiserver not ready"}'),
            "/html": (200, "<html>"),
            "/unknown-group": (404, "404 page not found"),
            "/proxy": (502, "<html> Bad\n Gateway"),
            f"{PODS}/p/log?container=c&sinceSeconds=30": (200, "one\n{two}\n"),
            f"{PODS}/p/log?container=x&sinceSeconds=30": (400, '{"message": "container x is not valid for pod p"}'),
            "/api/v1/namespaces/n/serviceaccounts/a/token": (201, '{"status": {"token": "jwt"}}'),
        }.get(self.path, (404, '{"message": "not found"}'))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(document.encode())

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None: ...


def kubeconfig(port: int) -> str:
    return yaml.safe_dump(
        {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": "bearer"}}],
        }
    )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiCluster]:
    Api.seen = []
    monkeypatch.setattr(ThreadingHTTPServer, "request_queue_size", 64)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ApiCluster(kubeconfig(server.server_address[1]))
    server.shutdown()
    server.server_close()


def test_objects_come_as_plain_documents(cluster: ApiCluster) -> None:
    assert cluster.get("/thing") == {"metadata": {"name": "thing"}}
    assert cluster.get("/nothing") is None
    assert cluster.items("/things", "app=x,b=y") == [{"a": 1}]
    assert cluster.items("/unknown-kind") == []
    assert cluster.items("/unknown-group") == []
    assert [cluster.delete("/thing"), cluster.delete("/nothing")] == [True, False]
    assert {authorization for _, _, authorization, _ in Api.seen} == {"Bearer bearer"}


def test_a_token_is_asked_for_as_the_api_wants_it(cluster: ApiCluster) -> None:
    assert token(cluster, "n", "a", "istio-ca", 600) == "jwt"
    spec = json.loads(Api.seen[0][3])["spec"]
    assert spec == {"audiences": ["istio-ca"], "expirationSeconds": 600}
    with pytest.raises(KubeError, match="not found"):
        token(cluster, "n", "other", "istio-ca", 600)


def test_a_refusal_lasts_and_an_outage_may_pass(cluster: ApiCluster) -> None:
    with pytest.raises(KubeError, match="GET /refused: 403 no rights") as refusal:
        cluster.get("/refused")
    assert not isinstance(refusal.value, Unreachable)
    for path, reason in (
        ("/starting", "503 apiserver not ready"), ("/html", "not JSON"), ("/proxy", "502 <html> Bad Gateway$"),
    ):  # fmt: skip
        with pytest.raises(Unreachable, match=reason):
            cluster.get(path)


def test_nobody_listening_is_unreachable_at_once() -> None:
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9 does not answer"):
        ApiCluster(kubeconfig(9)).get("/thing")


def test_a_node_that_does_not_answer_is_no_exit_code(cluster: ApiCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        def run_forever(self, timeout: float) -> None: ...

        def is_open(self) -> bool:
            return False

        @property
        def returncode(self) -> int:
            return int("error sending request: Post https://node:10250/exec: connection refused")

    monkeypatch.setattr("kubernetes.stream.stream", lambda *_, **__: Ended())
    with pytest.raises(Unreachable, match=r"cannot run curl in pod n/p: its node does not answer"):
        cluster.run("n", "p", "c", ["curl", "http://x"], 1)


def test_others_may_ask_while_a_command_starts_in_a_container(
    cluster: ApiCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client's `stream` has its client send everything over a websocket until the command is under way."""

    def connect(*_: object) -> None:
        seen.append(cluster.get("/thing"))
        raise ApiException(status=403, reason="no rights")

    seen: list[object] = []
    monkeypatch.setattr("kubernetes.stream.ws_client.create_websocket", connect)
    with pytest.raises(KubeError, match=r"cannot run curl in pod n/p: .*no rights"):
        cluster.run("n", "p", "c", ["curl", "http://x"], 1)
    assert seen == [{"metadata": {"name": "thing"}}]


def test_many_may_ask_at_once_without_a_word(cluster: ApiCluster, caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(cluster.get, ["/together"] * 20)) == [{}] * 20
    assert caplog.records == []


def test_logs_are_text(cluster: ApiCluster) -> None:
    assert cluster.logs("n", "p", "c", 30) == "one\n{two}\n"
    with pytest.raises(KubeError, match=r"there is no pod n/gone"):
        cluster.logs("n", "gone", "c", 30)
    with pytest.raises(KubeError, match="400 container x is not valid for pod p"):
        cluster.logs("n", "p", "x", 30)


def test_a_wrong_kubeconfig_is_not_quoted() -> None:
    for text in ("secret", "- secret", "{secret: [", "current-context: secret"):
        with pytest.raises(KubeError, match="give the text of a kubeconfig file") as error:
            ApiCluster(text)
        assert "secret" not in str(error.value)


def test_waiting_lives_through_outages_and_ends_with_the_last_reason() -> None:
    def look() -> str | None:
        answers.append(None)
        if len(answers) == 1:
            raise Unreachable("gone")
        return "not yet" if len(answers) < 4 else None

    answers: list[None] = []
    assert wait(look, Deadline(10), lambda _: None) is None
    answers.clear()
    assert wait(look, Deadline(0)) == "gone"
