"""A small SSH server on the loopback: runs commands, takes files, accepts the environment variable it is told to."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

ACCEPTED_VARIABLE = "ACCEPTED"


def new_key() -> str:
    """An Ed25519 private key in OpenSSH's form."""
    key = ed25519.Ed25519PrivateKey.generate()
    form, style = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    return key.private_bytes(form, style, serialization.NoEncryption()).decode()


def public_of(private_key: str) -> str:
    """`type base64`."""
    key = _key(private_key)
    return f"{key.get_name()} {key.get_base64()}"


def _key(text: str) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text))


class SshServer:
    """Listens from the start; answers only while it is `serving`, as a machine does that still boots."""

    def __init__(self, home: Path) -> None:
        """`home` is what file transfers see as `/`."""
        home.mkdir()
        self.home = home
        self.user_key, self._host_key = new_key(), new_key()
        self.host_key = public_of(self._host_key)
        self.logins = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._socket: socket.socket | None = None
        self._transports: list[paramiko.Transport] = []

    def __enter__(self) -> SshServer:
        self.serve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def serve(self) -> None:
        """Begin to answer."""
        self._socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and break those that are open."""
        if self._socket:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None
        for transport in self._transports:
            transport.close()

    def connection(self, **more: object) -> dict[str, object]:
        """How a program reaches it, as `remote.ConnectionArgs` spells it."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "tester",
            "private_key": self.user_key,
            "host_key": self.host_key,
            **more,
        }

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            transport = paramiko.Transport(sock)
            transport.add_server_key(_key(self._host_key))
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self.home)
            self._transports.append(transport)
            transport.start_server(event=threading.Event(), server=_Session(self))

    def allows(self, user: str, key: paramiko.PKey) -> bool:
        """Whether this is our user."""
        self.logins += 1
        return user == "tester" and f"{key.get_name()} {key.get_base64()}" == public_of(self.user_key)


class _Session(paramiko.ServerInterface):
    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._environment: dict[str, str] = {}

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if self._server.allows(username, key) else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        if name.decode() != ACCEPTED_VARIABLE:
            return False
        self._environment[name.decode()] = value.decode()
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_execute, args=(channel, command.decode(), self._environment), daemon=True).start()
        return True


def _execute(channel: paramiko.Channel, command: str, environment: dict[str, str]) -> None:
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert child.stdin and child.stdout and child.stderr
    pumps = [
        threading.Thread(target=_pump, args=(child.stdout, channel.sendall)),
        threading.Thread(target=_pump, args=(child.stderr, channel.sendall_stderr)),
    ]
    threading.Thread(target=_feed, args=(channel, child), daemon=True).start()
    for pump in pumps:
        pump.start()
    for pump in pumps:
        pump.join()
    channel.send_exit_status(child.wait())
    channel.close()


def _pump(source: Any, send: Any) -> None:
    while data := os.read(source.fileno(), 32768):
        send(data)


def _feed(channel: paramiko.Channel, child: subprocess.Popen[bytes]) -> None:
    assert child.stdin
    try:
        while data := channel.recv(32768):
            child.stdin.write(data)
        child.stdin.close()
    except BrokenPipeError:
        return
    if channel.closed and child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, server: paramiko.ServerInterface, home: Path) -> None:
        super().__init__(server)
        self._home = home

    def _local(self, path: str) -> Path:
        return self._home / path.lstrip("/")

    def stat(self, path: str) -> Any:
        try:
            return paramiko.SFTPAttributes.from_stat(self._local(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        try:
            self._local(path).mkdir()
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return paramiko.SFTP_OK

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> Any:
        try:
            descriptor = os.open(self._local(path), flags, 0o600)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        handle: Any = paramiko.SFTPHandle(flags)
        handle.writefile = handle.readfile = os.fdopen(descriptor, "wb" if flags & os.O_WRONLY else "r+b")
        return handle
