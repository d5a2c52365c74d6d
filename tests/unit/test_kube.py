"""The Kubernetes helper against a server on loopback that answers as the API would."""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from kubernetes.client.exceptions import ApiException

from actions.kube import ApiCluster, KubeError, Unreachable, token, wait
from actions.protocol import Deadline

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
            "/thing?fieldManager=me&force=true": (200, '{"kind": "Thing"}'),
            "/things?labelSelector=app%3Dx%2Cb%3Dy": (200, '{"items": [{"a": 1}]}'),
            "/edited": (200, json.dumps({"as": self.headers.get("Content-Type"), "body": body})),
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

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, *_: object) -> None: ...


def certificate() -> tuple[bytes, bytes]:
    """One of 127.0.0.1 that vouches for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now, address = datetime.now(UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(hours=1))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = made.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, hashes.SHA256())
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    return signed.public_bytes(Encoding.PEM), key.private_bytes(*form)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no files in memory")
def test_keys_and_certificates_are_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, key = certificate()
    for name, text in (("shown", shown), ("key", key)):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "temporary").mkdir()
    Api.seen = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "shown", tmp_path / "key")
    context.load_verify_locations(tmp_path / "shown")
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    document = yaml.safe_load(kubeconfig(server.server_port))
    where = {"server": f"https://127.0.0.1:{server.server_port}", "certificate-authority-data": base64.b64encode(shown)}
    who = {"client-certificate-data": base64.b64encode(shown), "client-key-data": base64.b64encode(key)}
    document["clusters"][0]["cluster"] = {name: as_text(value) for name, value in where.items()}
    document["users"][0]["user"] = {name: as_text(value) for name, value in who.items()}
    for _ in range(2):
        assert ApiCluster(yaml.safe_dump(document)).get("/thing") == {"metadata": {"name": "thing"}}
    server.shutdown()
    assert list((tmp_path / "temporary").iterdir()) == []


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


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


def test_a_patch_is_merged(cluster: ApiCluster) -> None:
    assert cluster.patch("/edited", {"spec": 1}) == {"as": "application/merge-patch+json", "body": '{"spec": 1}'}
    with pytest.raises(KubeError, match="PATCH /nothing: not found"):
        cluster.patch("/nothing", {})


def test_objects_are_applied_and_edited(cluster: ApiCluster) -> None:
    assert cluster.apply("/thing", {"kind": "Thing"}, "me") == {"kind": "Thing"}
    assert cluster.edit("/thing", [{"op": "remove", "path": "/spec"}]) == {"metadata": {"name": "thing"}}
    assert [(method, body) for method, _, _, body in Api.seen] == [
        ("PATCH", '{"kind": "Thing"}'),
        ("PATCH", '[{"op": "remove", "path": "/spec"}]'),
    ]
    with pytest.raises(KubeError, match="not found"):
        cluster.apply("/nothing", {}, "me")


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
