"""The renderer against goldens, what its shell does when run, and the sample application when served."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.artifacts import MachineArtifact, install_deb_script
from actions.machines.cloud_init import CloudInit, File, cloud_config, render
from actions.samples.application import APPLICATION, FAULT_FILE, sample_application
from tests.conftest import Golden

GOLDEN = Path(__file__).parent / "golden"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbGkP5Ho9m2hVxkZ6k9l5iIvlYyqIhbYmXHGqXSvI8w"
PLAIN = CloudInit(hostname="lab-server-1", user="ubuntu", authorized_keys=(KEY,))


def workload() -> CloudInit:
    files, commands = sample_application("hello", (8080, 9090), "v2")
    package = install_deb_script(MachineArtifact(path="/opt/istio-vms/istio-sidecar.deb"), "istio-sidecar")
    return dataclasses.replace(
        PLAIN,
        hostname="lab-hello-1",
        packages=("iptables",),
        files=(File("/etc/motd", "héllo: 'quoted'\n\ttabbed\n"), *files),
        commands=(package, *commands),
    )


@pytest.mark.parametrize(("name", "machine"), [("server", PLAIN), ("workload", workload())])
def test_user_data_is_the_golden_one(name: str, machine: CloudInit, golden: Golden) -> None:
    golden(GOLDEN / f"{name}.user-data.yaml", render(machine))


def test_it_reads_back_as_what_was_meant() -> None:
    machine = workload()
    text = render(machine)
    document: dict[str, Any] = yaml.safe_load(text)
    assert text.startswith("#cloud-config\n")
    assert document["hostname"] == "lab-hello-1"
    assert document["manage_etc_hosts"] is False
    assert document["locale"] is False
    assert document["package_update"] is True
    (user,) = document["users"]
    assert user["ssh_authorized_keys"] == [KEY]
    assert user["lock_passwd"] is True
    assert {f["path"]: f["content"] for f in document["write_files"]} == {f.path: f.content for f in machine.files}
    ((shell, flag, script),) = document["runcmd"]
    assert (shell, flag) == ("bash", "-c")
    assert subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True).stderr == ""


def test_no_private_key_can_be_in_it() -> None:
    assert "ssh_keys" not in yaml.safe_load(render(workload()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.0.1 localhost\n", "127.0.0.1 localhost\n127.0.1.1 lab-server-1\n"),
        ("127.0.1.1 debian debian\n1.2.3.4 istiod\n", "1.2.3.4 istiod\n127.0.1.1 lab-server-1\n"),
        ("127.0.1.1 lab-server-1\n1.2.3.4 istiod\n", "127.0.1.1 lab-server-1\n1.2.3.4 istiod\n"),
    ],
)
def test_every_boot_leaves_the_machines_own_name_in_hosts(tmp_path: Path, before: str, after: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(before)
    (command,) = yaml.safe_load(render(PLAIN))["bootcmd"]
    for _ in range(2):
        subprocess.run([*command[:2], command[2].replace("/etc/hosts", str(hosts))], check=True)
        assert hosts.read_text() == after


def test_the_first_failing_command_is_the_last(tmp_path: Path) -> None:
    machine = dataclasses.replace(PLAIN, commands=("echo one", "false | true", "echo two"))
    ((*command,),) = yaml.safe_load(render(machine))["runcmd"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "one\n")


@pytest.mark.parametrize(
    "change",
    [
        {"hostname": "Lab"},
        {"hostname": "a.b"},
        {"hostname": "x'; reboot; '"},
        {"user": "root user"},
        {"authorized_keys": ()},
        {"authorized_keys": (f"{KEY}\n{KEY}",)},
        {"authorized_keys": ("-----BEGIN OPENSSH PRIVATE KEY-----",)},
        {"files": (File("relative", "x"),)},
        {"files": (File("/x", "x", "rw"),)},
    ],
)
def test_what_a_machine_would_misread_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        render(dataclasses.replace(PLAIN, **change))


def test_texts_survive_the_format() -> None:
    texts = [
        "trailing space \nx",
        "\ttab\n",
        "a: b\n# no comment\n",
        "  indented\n",
        "no newline",
        "1e3",
        "null",
        "\n\n",
    ]
    assert yaml.safe_load(cloud_config({"texts": texts}))["texts"] == texts


# --------------------------------------------------------------------------------------------- the sample application


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    return tmp_path / "fault"


@pytest.fixture
def served(fault: Path) -> Iterator[tuple[int, int]]:
    ports = (free_port(), free_port())
    arguments = ["--service=hello", "--version=v2", f"--fault-file={fault}", *(f"--port={port}" for port in ports)]
    process = subprocess.Popen([sys.executable, APPLICATION, "--bind=127.0.0.1", *arguments])
    try:
        for port in ports:
            wait_for(port)
        yield ports
    finally:
        process.terminate()
        assert process.wait(timeout=5) == 0


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the application does not listen"
            time.sleep(0.02)


def fetch(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, HTTPMessage, str]:
    """Status, headers and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_the_application_says_who_it_is_on_every_port(served: tuple[int, int]) -> None:
    for port in served:
        status, headers, body = fetch(port, "/")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert json.loads(body) == {"service": "hello", "instance": socket.gethostname(), "version": "v2"}


def test_the_application_greets_as_istios_helloworld_does(served: tuple[int, int]) -> None:
    status, headers, body = fetch(served[0], "/hello?call=1")
    assert (status, headers["Content-Type"]) == (200, "text/plain")
    assert body == f"Hello version: v2, instance: {socket.gethostname()}\n"


def test_the_application_shows_the_requests_headers(served: tuple[int, int]) -> None:
    _, _, body = fetch(served[0], "/headers?x=1", {"X-Forwarded-Client-Cert": "URI=spiffe://cluster.local/ns/a/sa/b"})
    assert json.loads(body)["x-forwarded-client-cert"] == "URI=spiffe://cluster.local/ns/a/sa/b"


def test_the_application_knows_no_other_path(served: tuple[int, int]) -> None:
    assert fetch(served[0], "/etc/passwd")[0] == 404


def test_the_application_fails_while_the_fault_file_is_there_and_stays_healthy(
    served: tuple[int, int], fault: Path
) -> None:
    def statuses() -> list[int]:
        return [fetch(served[0], path)[0] for path in ("/hello", "/headers", "/")]

    assert statuses() == [200, 200, 200]
    fault.touch()
    assert statuses() == [503, 503, 200]
    fault.unlink()
    assert statuses() == [200, 200, 200]


def test_every_answer_names_its_instance_and_version(served: tuple[int, int], fault: Path) -> None:
    fault.touch()
    for path in ("/", "/hello", "/nothing"):
        _, headers, _ = fetch(served[0], path)
        assert (headers["X-Instance"], headers["X-Version"]) == (socket.gethostname(), "v2")


def test_a_slow_client_does_not_stop_others(served: tuple[int, int]) -> None:
    with socket.create_connection(("127.0.0.1", served[0])) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert fetch(served[0], "/")[0] == 200


def test_the_unit_may_bind_low_ports_only_when_it_has_one() -> None:
    low, high = (sample_application("hello", ports)[0][1].content for ports in ((80,), (8080,)))
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in low
    assert "AmbientCapabilities=\n" in high


def test_the_application_fails_by_a_file_of_roots() -> None:
    unit = sample_application("hello", (80,))[0][1].content
    assert f" --fault-file {FAULT_FILE} " in unit
    assert "DynamicUser=yes\n" in unit and FAULT_FILE.startswith("/run/")


def test_a_service_name_cannot_change_the_unit() -> None:
    with pytest.raises(ValueError):
        sample_application("hello\nUser=root", (80,))
