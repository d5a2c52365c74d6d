"""`actions.ssh` against a real SSH server in this process, whose commands run in this machine's own bash."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from actions import ssh
from actions.machines.keys import make_pair
from actions.ssh import side_by_side

PRIVATE, PUBLIC = make_pair()


class Guard(paramiko.ServerInterface):
    """Lets `tester` in with the right key, and remembers the commands."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == "tester" and f"{key.get_name()} {key.get_base64()}" == PUBLIC
        if not known or self.server.refusals > 0:
            self.server.refusals -= 1
            return paramiko.AUTH_FAILED
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.server.commands.append(command.decode())
        threading.Thread(target=self.server.execute, args=(channel, command.decode()), daemon=True).start()
        return True


class Server:
    """One listening socket; `refusals` logins are refused first, the connection is cut at `cut` commands."""

    def __init__(self, tools: Path) -> None:
        self.key = paramiko.Ed25519Key.from_private_key(io.StringIO(make_pair()[0]))
        self.tools = tools
        self.commands: list[str] = []
        self.refusals = 0
        self.cut = False
        self.transports: list[paramiko.Transport] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def host_key(self) -> str:
        return f"{self.key.get_name()} {self.key.get_base64()}"

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.key)
            self.transports.append(transport)
            try:
                transport.start_server(server=Guard(self))
            except (paramiko.SSHException, EOFError, OSError):
                transport.close()

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        if self.cut:
            channel.get_transport().close()
            return
        path = f"{self.tools}:{os.environ['PATH']}"
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            ["bash", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ | {"PATH": path}
        )
        streams = ((process.stdout, channel.sendall), (process.stderr, channel.sendall_stderr))
        threads = [threading.Thread(target=self.copy, args=stream) for stream in streams]
        threads.append(threading.Thread(target=self.feed, args=(channel, process), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads[:2]:
            thread.join()
        channel.send_exit_status(process.wait())
        channel.close()

    @staticmethod
    def copy(stream, send) -> None:
        while part := stream.read1(65536):
            send(part)

    @staticmethod
    def feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
        try:
            while part := channel.recv(65536):
                process.stdin.write(part)
                process.stdin.flush()
            process.stdin.close()
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed before
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for transport in self.transports:
            transport.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server whose `sudo` says that it was asked and runs the command as whoever runs the tests."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sudo").write_text('#!/bin/sh\n[ "$1" = -n ] || exit 99\nshift\nSUDO_USER=tester exec "$@"\n')
    (tools / "sudo").chmod(0o755)
    made = Server(tools)
    yield made
    made.close()


def connect(server: Server, **changes):
    arguments = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": "tester",
        "private_key": PRIVATE,
        "host_key": server.host_key,
        "timeout": 5,
    }
    return ssh.connect(**arguments | changes)


def test_a_script_runs_as_root_and_its_output_comes_back(server: Server) -> None:
    with connect(server) as session:
        assert session.run("echo $SUDO_USER; echo aside >&2") == "tester\n"
        assert session.run("echo ${SUDO_USER-nobody}", as_root=False) == "nobody\n"


def test_neither_script_nor_input_is_an_argument(server: Server) -> None:
    with connect(server) as session:
        assert session.run("# very secret script\ncat", stdin=b"very secret input") == "very secret input"
    assert server.commands and "secret" not in "".join(server.commands)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_input_arrives_whole(server: Server, size: int) -> None:
    with connect(server) as session:
        assert session.run("wc -c", stdin=b"\0" * size).strip() == str(size)


def test_a_script_may_be_longer_than_an_argument_can_be(server: Server) -> None:
    script = "".join(f"x{i}=ü{'y' * 100}\n" for i in range(3000)) + "echo $x2999"
    with connect(server) as session:
        assert session.run(script) == f"ü{'y' * 100}\n"


def test_much_output_on_both_streams_blocks_nothing(server: Server) -> None:
    with connect(server) as session:
        assert len(session.run("head -c 4000000 /dev/zero >&2; head -c 4000000 /dev/zero | tr '\\0' x")) == 4_000_000


def test_each_line_of_stderr_is_told_when_it_comes(server: Server, tmp_path: Path) -> None:
    told = tmp_path / "told"
    # It ends only once somebody was told.
    script = f"echo first >&2; until [ -e {told} ]; do sleep 0.01; done; printf 'second\\nrest' >&2"
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        told.touch()

    with connect(server) as session:
        session.run(script, timeout=10, tell=tell)
    assert said == ["first", "second"]


def test_a_script_that_reads_no_input_is_fine(server: Server) -> None:
    with connect(server) as session:
        assert session.run("echo done", stdin=b"x" * 5_000_000) == "done\n"


def test_a_failing_script_is_an_error_with_the_tail_of_its_stderr(server: Server) -> None:
    with connect(server) as session:
        with pytest.raises(ssh.CommandError) as raised:
            session.run("seq 100 >&2; echo not shown; exit 7")
        assert raised.value.returncode == 7
        assert "exit code 7:\n81\n" in str(raised.value) and str(raised.value).endswith("\n100")
        assert session.run("echo still here") == "still here\n"


def test_a_script_cut_short_is_not_run(server: Server, tmp_path: Path) -> None:
    body = f"touch {tmp_path}/ran"
    ran = subprocess.run(["bash", "-c", ssh._RECEIVER], input=f"{len(body) + 20}\n{body}".encode(), capture_output=True)
    assert ran.returncode == 1
    assert not (tmp_path / "ran").exists()


def test_a_script_that_takes_too_long_is_ended_on_the_machine(server: Server, tmp_path: Path) -> None:
    with connect(server) as session, pytest.raises(ssh.CommandError, match="did not end within 1 s:\nworking"):
        session.run(f"echo $$ >{tmp_path}/pid; echo working >&2; sleep 60", timeout=1)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_lost_connection_is_an_error(server: Server) -> None:
    with connect(server) as session:
        server.cut = True
        with pytest.raises(ssh.SshError, match="connection was lost"):
            session.run("true", timeout=5)


def test_another_host_key_is_refused_before_any_login(server: Server) -> None:
    other = make_pair()[1]
    started = time.monotonic()
    with pytest.raises(ssh.HostKeyError) as raised, connect(server, host_key=other, timeout=30):
        pass
    assert time.monotonic() - started < 5, "a wrong key is not retried"
    for key in (other, server.host_key):
        assert ssh.fingerprint(base64.b64decode(key.split()[1])) in str(raised.value)
    assert not any(transport.is_authenticated() for transport in server.transports)


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(PUBLIC)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert ssh.fingerprint(base64.b64decode(PUBLIC.split()[1])) in shown


def test_a_host_without_that_type_of_key_is_refused(server: Server) -> None:
    rsa = paramiko.RSAKey.generate(2048)
    with (
        pytest.raises(ssh.HostKeyError, match="pinned ssh-rsa key"),
        connect(server, host_key=f"ssh-rsa {rsa.get_base64()}"),
    ):
        pass


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 !!", "ssh-dss AAAA", "AAAA"])
def test_what_is_no_host_key_is_said(server: Server, text: str) -> None:
    with pytest.raises(ssh.HostKeyError, match="is no host key"), connect(server, host_key=text):
        pass


def test_a_refused_key_is_said_with_its_fingerprint(server: Server) -> None:
    private, public = make_pair()
    with pytest.raises(ssh.SshError) as raised, connect(server, private_key=private, timeout=1):
        pass
    assert "tester@127.0.0.1" in str(raised.value)
    assert ssh.fingerprint(base64.b64decode(public.split()[1])) in str(raised.value)


def test_a_machine_that_is_coming_up_is_waited_for(server: Server) -> None:
    server.refusals = 2
    with connect(server) as session:
        assert session.run("echo up") == "up\n"


def test_a_port_that_opens_late_is_waited_for(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    late: list[Server] = []
    first = Server(tmp_path)

    def open_late() -> None:
        first.listener = socket.create_server(("127.0.0.1", port))
        late.append(first)
        first.accept()

    first.close()
    timer = threading.Timer(1, open_late)
    timer.daemon = True
    timer.start()
    with ssh.connect("127.0.0.1", port, "tester", PRIVATE, first.host_key, 10) as session:
        assert session.run("echo up", as_root=False) == "up\n"
    late[0].close()


def test_an_unreachable_host_is_said(server: Server) -> None:
    server.close()
    with pytest.raises(ssh.SshError, match=r"cannot be reached: .*[Rr]efused"), connect(server, timeout=1):
        pass


def test_a_port_that_speaks_no_ssh_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ssh.SshError, match="does not answer as an SSH server"):
            ssh.check_host_key("127.0.0.1", port, PUBLIC, 2)


@pytest.mark.parametrize("text", ["", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"])
def test_what_is_no_private_key_is_said_without_showing_it(server: Server, text: str) -> None:
    with pytest.raises(ssh.SshError, match="none of ed25519") as raised, connect(server, private_key=text):
        pass
    assert "AAAA" not in str(raised.value)


def test_the_host_key_can_be_checked_without_a_login(server: Server) -> None:
    ssh.check_host_key("127.0.0.1", server.port, server.host_key)
    assert not any(transport.is_authenticated() for transport in server.transports)


def test_what_runs_side_by_side_prints_whole_pieces() -> None:
    """Each pauses between its lines, so that all of them write at the same time."""
    script = side_by_side("for line in 1 2 3; do echo $line; sleep 0.1; done", 8)
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "1\n2\n3\n" * 8
    assert ran.returncode == 0


def test_one_failure_of_many_side_by_side_is_theirs_and_nothing_is_left(tmp_path: Path) -> None:
    script = side_by_side(f"mkdir {tmp_path}/first 2>/dev/null || exit 3; echo made", 4)
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, env=env)
    assert (ran.stdout, ran.returncode) == ("made\n", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
