"""The Kubernetes helper against a server on loopback that answers as the API would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from components.command_line import Deadline
from components.kube import ApiCluster, KubeError, Unreachable, token, wait


class Api(BaseHTTPRequestHandler):
    """Knows a handful of paths."""

    seen: list[tuple[str, str, str, str]]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.seen.append((self.command, self.path, self.headers.get("Authorization", ""), body))
        status, document = {
            "/thing": (200, '{"metadata": {"name": "thing"}}'),
            "/things?labelSelector=app%3Dx%2Cb%3Dy": (200, '{"items": [{"a": 1}]}'),
            "/refused": (403, '{"message": "no rights"}'),
            "/starting": (503, '{"message": "apiserver not ready"}'),
            "/html": (200, "<html>"),
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
def cluster() -> Iterator[ApiCluster]:
    Api.seen = []
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
    for path, reason in (("/starting", "apiserver not ready"), ("/html", "not JSON")):
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
