"""SSH sessions as `remote.Connection` describes them: pinned host key, retried while the machine comes up."""

from __future__ import annotations

import base64
import binascii
import io
import logging
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer

from lab.plugins.command import fields
from lab.plugins.failures import Cancelled, Failed
from lab.plugins.process import Finished, Gathered, OnLine, Stream
from lab.plugins.provider import Call
from lab.plugins.values import Properties

# A failed attempt is reported by us, once; paramiko would print its stack to stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

DEFAULTS: Final[Mapping[str, Any]] = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
TESTS: Final[Mapping[str, fields.Test]] = {
    "host": fields.text,
    "port": fields.number,
    "user": fields.text,
    "password": fields.text,
    "privateKey": fields.text,
    "privateKeyPassword": fields.text,
    "hostKey": fields.text,
    "dialErrorLimit": fields.number,
    "perDialTimeout": fields.number,
    "agentSocketPath": fields.text,
    "proxy": fields.anything,
}
UNSUPPORTED: Final = ("proxy", "agentSocketPath")
_RSA: Final = ("rsa-sha2-512", "rsa-sha2-256")
_FIRST_WAIT, _WAIT_FACTOR, _LONGEST_WAIT = 0.1, 1.5, 5.0
_CHUNK = 65536


class _WrongHost(Failed):
    """The host key is not the expected one: trying again would not help."""


@contextmanager
def connected(call: Call, connection: Properties) -> Generator[paramiko.Transport, None, None]:
    """A logged-in transport; raises `Failed` after `dialErrorLimit` failed attempts (-1: never)."""
    transport = _dial(call, connection)
    with call.cancellation.ending_by(transport.close):
        try:
            yield transport
        finally:
            transport.close()


def _dial(call: Call, connection: Properties) -> paramiko.Transport:
    limit, wait, attempt = int(connection["dialErrorLimit"]), _FIRST_WAIT, 0
    key = _private_key(connection)
    while True:
        attempt += 1
        try:
            return _attempt(connection, key)
        except (OSError, EOFError, paramiko.SSHException) as error:
            if 0 <= limit < attempt:
                where = f"{connection['user']}@{connection['host']}:{int(connection['port'])}"
                raise Failed(
                    f"no SSH session with {where} after {attempt - 1} failed attempts: {_said(error)}"
                ) from error
            call.log.status(f"Dial {attempt}/{'inf' if limit < 0 else limit} failed: retrying")
        call.cancellation.sleep(wait)
        wait = min(wait * _WAIT_FACTOR, _LONGEST_WAIT)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _attempt(connection: Properties, key: paramiko.PKey | None) -> paramiko.Transport:
    seconds = connection["perDialTimeout"] or None
    sock = socket.create_connection((connection["host"], int(connection["port"])), timeout=seconds)
    transport = paramiko.Transport(sock)
    try:
        if seconds:
            transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = seconds
        expected = connection.get("hostKey")
        if expected:
            kind = expected.split()[0]
            transport.get_security_options().key_types = _RSA if kind == "ssh-rsa" else (kind,)
        _handshake(transport, seconds)
        if expected:
            _verify(transport, expected, connection["host"])
        _log_in(transport, connection, key)
        transport.set_keepalive(30)
    except BaseException:
        transport.close()
        raise
    return transport


def _handshake(transport: paramiko.Transport, seconds: float | None) -> None:
    try:
        transport.start_client(timeout=seconds)
    except IncompatiblePeer as error:
        # With a pinned key only its own type is asked for, so another type of key ends here.
        raise paramiko.SSHException(f"the machine shows no SSH host key of the expected type ({error})") from error


def _verify(transport: paramiko.Transport, expected: str, host: str) -> None:
    given = transport.get_remote_server_key()
    if given.get_base64() != expected.split()[1]:
        raise _WrongHost(
            f"{host} shows another SSH host key ({given.get_name()} {given.fingerprint}) than the expected one: "
            "either the machine was made anew, or something else answers at its address"
        )


def _log_in(transport: paramiko.Transport, connection: Properties, key: paramiko.PKey | None) -> None:
    user, password = connection["user"], connection.get("password")
    refused: paramiko.SSHException | None = None
    ways: list[Callable[[], object]] = []
    if key:
        ways.append(lambda: transport.auth_publickey(user, key))
    if password is not None:
        ways.append(lambda: transport.auth_password(user, password))
    if not ways:
        ways = [lambda key=key: transport.auth_publickey(user, key) for key in paramiko.Agent().get_keys()]
    for way in ways:
        try:
            way()
            return
        except paramiko.AuthenticationException as error:
            refused = error
    raise refused or paramiko.AuthenticationException("the connection has no key, no password, and no SSH agent runs")


def _private_key(connection: Properties) -> paramiko.PKey | None:
    text, password = connection.get("privateKey"), connection.get("privateKeyPassword")
    if text is None:
        return None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), password)
        except paramiko.PasswordRequiredException as error:
            raise Failed("the connection's privateKey is encrypted: set privateKeyPassword") from error
        except (paramiko.SSHException, ValueError, IndexError):
            continue
    raise Failed(
        "the connection's privateKey is no Ed25519, ECDSA or RSA key in OpenSSH or PEM form, or its password is wrong"
    )


def host_key_problem(text: str) -> str | None:
    """What is wrong with a host key as the inputs give it: `type base64 [comment]`."""
    parts = text.split()
    if len(parts) < 2:
        return "expected a public key: type and base64, as in known_hosts"
    try:
        paramiko.PKey.from_type_string(parts[0], base64.b64decode(parts[1], validate=True))
    except (binascii.Error, paramiko.SSHException, UnknownKeyType, ValueError) as error:
        return f"is no public key that can be used: {_said(error)}"
    return None


def execute(
    call: Call,
    connection: Properties,
    script: str,
    stdin: bytes,
    environment: Mapping[str, str],
    offered: Mapping[str, str],
    on_line: OnLine,
) -> Finished:
    """Run `script` on the machine by its user's login shell.

    `environment` has to be accepted by the machine's sshd (AcceptEnv), what is only `offered` need not.
    """
    with connected(call, connection) as transport:
        try:
            channel = transport.open_session()
            for name, value in environment.items():
                _set_environment(channel, name, value)
            for name, value in offered.items():
                channel.set_environment_variable(name, value)
            channel.exec_command(script)
            return _finish(channel, stdin, on_line)
        except (OSError, EOFError, paramiko.SSHException) as error:
            if call.cancellation.asked:
                raise Cancelled("the run was cancelled") from error
            raise Failed(f"the SSH session with {connection['host']} broke: {_said(error)}") from error


def _set_environment(channel: paramiko.Channel, name: str, value: str) -> None:
    """Like `Channel.set_environment_variable`, which does not ask for the server's answer and so hides a refusal."""
    raw: Any = channel
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(raw.remote_chanid)
    message.add_string("env")
    message.add_boolean(True)
    message.add_string(name)
    message.add_string(value)
    raw._event_pending()
    raw.transport._send_user_message(message)
    try:
        raw._wait_for_event()
    except paramiko.SSHException as error:
        raise Failed(
            f"could not set environment variable {name!r}: the machine's sshd does not accept it (AcceptEnv). "
            "Prefix the command instead: VAR=value command"
        ) from error


def _finish(channel: paramiko.Channel, stdin: bytes, on_line: OnLine) -> Finished:
    gathered = Gathered(on_line)
    threads = [
        threading.Thread(target=_read, args=(gathered, "stdout", channel.recv)),
        threading.Thread(target=_read, args=(gathered, "stderr", channel.recv_stderr)),
        threading.Thread(target=_write, args=(channel, stdin)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    code = channel.recv_exit_status()
    if code < 0:
        raise EOFError("the command ended without an exit status")
    return gathered.finished(code, f"Process exited with status {code}")


def _read(gathered: Gathered, stream: Stream, receive: Callable[[int], bytes]) -> None:
    while data := receive(_CHUNK):
        gathered.add(stream, data)
    gathered.end(stream)


def _write(channel: paramiko.Channel, data: bytes) -> None:
    try:
        channel.sendall(data)
        channel.shutdown_write()
    except OSError:
        # The command ended without reading all of it: its exit code says whether that is bad.
        return
