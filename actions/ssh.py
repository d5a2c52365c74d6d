"""One SSH session to one machine whose host key is known beforehand.

A script and its input travel on the session's own stdin: neither is ever an argument of a process, here or there. Nothing is read from
the operator's `~/.ssh`: no agent, no `known_hosts`, no other key than the one given.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import math
import shlex
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import paramiko

RETRY_SECONDS = 0.5
ATTEMPT_SECONDS = 15
KEEPALIVE_SECONDS = 5
"""How soon a connection that the other side has forgotten is known to be lost."""
TAIL_LINES = 20

_HOST_KEY_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}

# The size of the script comes first, then the script, then its input; one that arrived in part is not run.
_END = "\n# end of script"
_RECEIVER = (
    'IFS= read -r size && script=$(head -c "$size") && '
    f'case "$script" in *{shlex.quote(_END)}) eval "$script" ;; *) echo "the script was cut short" >&2; exit 1 ;; esac'
)


class SshError(Exception):
    """The machine cannot be reached or used. The message says what happened and what to do."""


class HostKeyError(SshError):
    """The host presents another key than the pinned one. Trying again is pointless."""


class CommandError(SshError):
    """A script failed. `returncode` is its exit code; the message ends with the tail of its stderr."""

    def __init__(self, message: str, returncode: int) -> None:
        """Keep the exit code beside the message."""
        super().__init__(message)
        self.returncode = returncode


class Session:
    """A connection that scripts are run over, one after the other."""

    def __init__(self, transport: paramiko.Transport, user: str) -> None:
        """Use `connect` instead."""
        self._transport = transport
        self._user = user

    def run(
        self,
        script: str,
        stdin: bytes | None = None,
        timeout: float | None = None,
        *,
        as_root: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> str:
        """Run a bash script to its end; what it printed on stdout.

        Args:
            script: bash, of any length.
            stdin: what the script reads.
            timeout: seconds; after them the script is ended on the machine, too.
            as_root: by sudo, which must not ask for a password; not needed when the user is root.
            tell: gets each line of the script's stderr when it comes.

        Raises:
            CommandError: it ended with another exit code than 0, or not within `timeout`.
            SshError: the connection was lost; whether the script has run to its end is not known.
        """
        body = (script + _END).encode()
        payload = f"{len(body)}\n".encode() + body + (stdin or b"")
        command = f"bash -c {shlex.quote(_RECEIVER)}"
        if timeout is not None:
            command = f"timeout --kill-after=5 {math.ceil(timeout)} {command}"
        if as_root and self._user != "root":
            command = f"sudo -n {command}"
        code, stdout, stderr = self._execute(command, payload, None if timeout is None else timeout + 10, tell)
        if code:
            what = f"did not end within {timeout:g} s" if code == 124 and timeout else f"failed with exit code {code}"
            raise CommandError(f"the script {what}{_tail(stderr)}", code)
        return stdout

    def _execute(
        self, command: str, payload: bytes, timeout: float | None, tell: Callable[[str], None] | None
    ) -> tuple[int, str, str]:
        import paramiko

        try:
            channel = self._transport.open_session(timeout=ATTEMPT_SECONDS)
            channel.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise SshError(f"the connection was lost: {_reason(error)}") from error
        stdout, stderr = _Drain(channel.recv), _Drain(channel.recv_stderr, tell)
        sender = threading.Thread(target=_send, args=(channel, payload), daemon=True)
        sender.start()
        ended = channel.status_event.wait(timeout)
        if not ended or channel.exit_status < 0:
            channel.close()
            why = "the connection was lost" if ended else f"no answer within {timeout:g} s"
            raise SshError(f"{why} while a script ran{_tail(stderr.text())}")
        output = stdout.text(), stderr.text()
        channel.close()
        sender.join()
        return channel.exit_status, *output


def python_script(program: Path) -> str:
    """Bash for `Session.run` that has the machine's own Python run a program of ours, which is sent whole; stdin is the program's."""
    return f"exec python3 -c {shlex.quote(program.read_text())}"


def side_by_side(script: str, times: int) -> str:
    """Bash for `Session.run` that runs a script `times` times at once; it prints what each printed whole, and fails as one of them does.

    Through a file each: what several processes write into one pipe is mixed line by line.
    """
    return f"""\
printed=$(mktemp -d)
trap 'rm -r "$printed"' EXIT
for i in {{1..{times}}}; do ({script}) >"$printed/$i" & running+=($!); done
for one in "${{running[@]}}"; do wait "$one" || failed=$?; done
cat "$printed"/*
exit "${{failed:-0}}"
"""


class _Drain:
    """Reads one stream to its end, beside the other one, so that neither can block the machine."""

    def __init__(self, receive: Callable[[int], bytes], tell: Callable[[str], None] | None = None) -> None:
        self._receive = receive
        self._tell = tell
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        begun = b""
        while part := self._receive(65536):
            self._parts.append(part)
            if self._tell:
                *lines, begun = (begun + part).split(b"\n")
                for line in lines:
                    self._tell(line.decode(errors="replace"))

    def text(self) -> str:
        """All of it. A script's own background process may keep the stream open: it is not waited for long."""
        self._thread.join(timeout=5)
        return b"".join(self._parts).decode(errors="replace")


def _send(channel: paramiko.Channel, payload: bytes) -> None:
    try:
        channel.sendall(payload)
        channel.shutdown_write()
    except OSError:
        pass  # A script may end without having read its input; its exit code says the rest.


Connect = Callable[..., AbstractContextManager[Session]]
"""`connect`, or what stands in for it."""


@contextmanager
def connect(
    host: str, port: int, user: str, private_key: str, host_key: str, timeout: float = 60
) -> Generator[Session]:
    """A session; closed at the end of the `with` block.

    Tries until `timeout` seconds have passed: a machine that is coming up refuses connections, and then keys, for a while.

    Args:
        host: an address or a name.
        port: where sshd listens.
        user: whom the key opens.
        private_key: the private key's text, OpenSSH or PEM, without a passphrase.
        host_key: type and base64, as in `known_hosts`.
        timeout: seconds.

    Raises:
        HostKeyError: the host presents another key than the pinned one.
        SshError: the host cannot be reached, or refuses the key, until the end.
    """
    key = _private_key(private_key)
    end = time.monotonic() + timeout
    while True:
        try:
            transport = _open(host, port, host_key, max(1.0, min(ATTEMPT_SECONDS, end - time.monotonic())))
            _authenticate(transport, f"{user}@{host}:{port}", user, key)
            break
        except HostKeyError:
            raise
        except SshError:
            if time.monotonic() + RETRY_SECONDS > end:
                raise
            time.sleep(RETRY_SECONDS)
    transport.set_keepalive(KEEPALIVE_SECONDS)
    try:
        yield Session(transport, user)
    finally:
        transport.close()


def check_host_key(host: str, port: int, host_key: str, timeout: float = 10) -> None:
    """See that a host answers and has the pinned key; no login.

    Raises:
        HostKeyError: it presents another key.
        SshError: it does not answer as an SSH server.
    """
    _open(host, port, host_key, timeout).close()


def _open(host: str, port: int, host_key: str, timeout: float) -> paramiko.Transport:
    """A transport to the host that has the pinned key, before any login."""
    import paramiko
    from paramiko.ssh_exception import IncompatiblePeer

    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    kind, pinned = _parse(host_key)
    try:
        transport = paramiko.Transport(socket.create_connection((host, port), timeout))
    except OSError as error:
        raise SshError(
            f"{host}:{port} cannot be reached: {_reason(error)}; is the machine running, its address right and the port open?"
        ) from error
    try:
        transport.banner_timeout = timeout
        transport.get_security_options().key_types = _HOST_KEY_ALGORITHMS[kind]
        transport.start_client(timeout=timeout)
        presented: bytes = transport.get_remote_server_key().asbytes()
    except IncompatiblePeer as error:
        transport.close()
        raise HostKeyError(
            f"{host}:{port} cannot prove the pinned {kind} key: it has none of that type, or nothing else in common with us ({error})"
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport.close()
        raise SshError(f"{host}:{port} does not answer as an SSH server: {_reason(error)}") from error
    if presented != pinned:
        transport.close()
        raise HostKeyError(
            f"{host}:{port} presents the host key {fingerprint(presented)}, pinned is {fingerprint(pinned)}. Someone may be in "
            "between. If the machine was set up anew, or its address went to another, compare the fingerprint on the machine's own "
            "console and pin the new key"
        )
    return transport


def _authenticate(transport: paramiko.Transport, whom: str, user: str, key: paramiko.PKey) -> None:
    import paramiko

    try:
        further = transport.auth_publickey(user, key)
        if further:
            raise SshError(f"{whom} asks for {' and '.join(further)} after the key")
    except paramiko.AuthenticationException as error:
        transport.close()
        raise SshError(
            f"{whom} refuses the key {fingerprint(key.asbytes())}: is its public half in that user's authorized_keys?"
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport.close()
        raise SshError(f"{whom}: the connection was lost during login: {_reason(error)}") from error


def fingerprint(key: bytes) -> str:
    """A public key's fingerprint as `ssh-keygen -l` writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _parse(host_key: str) -> tuple[str, bytes]:
    kind, _, blob = host_key.strip().partition(" ")
    try:
        key = base64.b64decode(blob.partition(" ")[0], validate=True)
    except ValueError:
        key = b""
    if kind not in _HOST_KEY_ALGORITHMS or not key:
        known = ", ".join(_HOST_KEY_ALGORITHMS)
        raise HostKeyError(f"{host_key[:60]!r} is no host key: it should be type and base64, the type one of {known}")
    return kind, key


def _private_key(text: str) -> paramiko.PKey:
    import paramiko

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text))
        except paramiko.PasswordRequiredException:
            raise SshError("the private key asks for a passphrase; give one without") from None
        except (paramiko.SSHException, ValueError, IndexError, UnicodeError):
            continue
    raise SshError("the private key is none of ed25519, ECDSA or RSA in OpenSSH or PEM form")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _tail(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()][-TAIL_LINES:]
    return ":\n" + "\n".join(lines) if lines else ""
