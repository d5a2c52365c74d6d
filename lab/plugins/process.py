"""Running a program: input fed and both outputs read at once, lines reported as they come, ended with its whole group."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Literal

from lab.plugins.cancellation import Cancellation

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[Stream, str], None]
KILL_AFTER_SECONDS = 10.0


@dataclass(frozen=True)
class Finished:
    """How a program ended."""

    code: int
    """Exit code; minus the signal's number if a signal ended it."""
    ending: str
    """The same in words."""
    stdout: str
    stderr: str
    both: str
    """Both outputs as they came."""


class Gathered:
    """What a program printed, gathered from several threads; whole lines are reported as they come."""

    def __init__(self, on_line: OnLine | None) -> None:
        """`on_line` gets the stream's name and the line, without its end."""
        self._on_line = on_line
        self._lock = threading.Lock()
        self._all: list[tuple[Stream, bytes]] = []
        self._rest: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def add(self, stream: Stream, data: bytes) -> None:
        """Take what has just been read."""
        with self._lock:
            self._all.append((stream, data))
        if self._on_line:
            *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
            for line in lines:
                self._on_line(stream, _text(line).rstrip("\r"))

    def end(self, stream: Stream) -> None:
        """Report a last line that has no end."""
        if self._on_line and self._rest[stream]:
            self._on_line(stream, _text(self._rest[stream]))

    def finished(self, code: int, ending: str) -> Finished:
        """All that came, and how it ended."""
        return Finished(code, ending, self._text("stdout"), self._text("stderr"), self._text("stdout", "stderr"))

    def _text(self, *streams: Stream) -> str:
        with self._lock:
            return _text(b"".join(data for stream, data in self._all if stream in streams))


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def run(
    cancellation: Cancellation,
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    on_line: OnLine | None = None,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run `command` to its end; raises `Cancelled` before it starts, OSError when it cannot start.

    When the run is cancelled its process group gets SIGTERM, and SIGKILL ten seconds later.
    """
    ending = _Ending()
    with (
        cancellation.ending_by(ending.ask),
        subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        ) as child,
    ):
        assert child.stdout and child.stderr
        ending.started(child.pid)
        gathered = Gathered(on_line)
        threads = [
            threading.Thread(target=_read, args=(gathered, "stdout", child.stdout)),
            threading.Thread(target=_read, args=(gathered, "stderr", child.stderr)),
        ]
        if child.stdin:
            threads.append(threading.Thread(target=_write, args=(child.stdin, stdin)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = child.wait()
        ending.over()
    return gathered.finished(code, _ending(code))


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


class _Ending:
    """Ends a process group on demand, whether the demand comes before or after its start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._group: int | None = None
        self._timer: threading.Timer | None = None

    def ask(self) -> None:
        with self._lock:
            self._asked = True
            if self._group is not None and self._timer is None:
                _signal(self._group, signal.SIGTERM)
                self._timer = threading.Timer(KILL_AFTER_SECONDS, _signal, (self._group, signal.SIGKILL))
                self._timer.daemon = True
                self._timer.start()

    def started(self, group: int) -> None:
        with self._lock:
            self._group = group
        if self._asked:
            self.ask()

    def over(self) -> None:
        """Nothing of the group is left to end: its number may soon be another's."""
        with self._lock:
            self._group = None
            if self._timer:
                self._timer.cancel()


def _read(gathered: Gathered, stream: Stream, pipe: IO[bytes]) -> None:
    while data := os.read(pipe.fileno(), 65536):
        gathered.add(stream, data)
    gathered.end(stream)


def _write(pipe: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(pipe.fileno(), left) :]
    except BrokenPipeError:
        # The program ended, or closed its input, without reading all of it: its exit code says whether that is bad.
        return
    finally:
        pipe.close()


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        # Every process of the group has ended already.
        return
