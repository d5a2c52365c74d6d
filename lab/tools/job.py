"""What a step of a recipe works with: folders, a log, commands that end when we do."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class ToolError(Exception):
    """A tool could not be had. The message says what happened; the log has the rest."""


class Processes:
    """The commands that are running now, so that an interrupted run leaves none behind."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def run(self, start: Callable[[], subprocess.Popen[bytes]]) -> int:
        """Start a process, which leads a session of its own, and wait for its exit code."""
        with self._lock:
            self.check()
            process = start()
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)

    def check(self) -> None:
        """Go on, unless the run has been interrupted.

        Raises:
            ToolError: it has.
        """
        if self.stopped:
            raise ToolError("interrupted")

    def stop(self) -> None:
        """End everything that runs, with its children; nothing can be started afterwards."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)


@dataclass(frozen=True)
class Job:
    """One tool being made.

    Attributes:
        folder: where its files go.
        needs: finished folders of the tools it needs, by name.
        go: the Go command.
        processes: how many commands a Go build runs at a time (`go build -p`).
        log: file that gets the commands and all they say.
        running: starts and ends commands.
    """

    folder: Path
    needs: Mapping[str, Path]
    go: Path
    processes: int
    log: Path
    running: Processes

    def run(
        self,
        command: Sequence[str | Path],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: Path | None = None,
    ) -> None:
        """Run a command with its output in the log, or its standard output in a file.

        Raises:
            ToolError: it failed.
        """
        words = [str(word) for word in command]
        with self.log.open("ab") as log, (stdout or Path(os.devnull)).open("wb") as file:
            log.write(f"\n$ cd {cwd} && {' '.join(words)}\n".encode())
            log.flush()
            code = self.running.run(
                lambda: subprocess.Popen(
                    words,
                    cwd=cwd,
                    env=os.environ | dict(env or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=file if stdout else log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        if code:
            raise ToolError(f"{Path(words[0]).name} failed with exit code {code}")

    def read(self, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Run a quick command and return its standard output without the last newline.

        Raises:
            ToolError: it failed.
        """
        try:
            answer = subprocess.run(
                [str(word) for word in command],
                cwd=cwd,
                env=os.environ | dict(env or {}),
                capture_output=True,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise ToolError(f"{Path(str(command[0])).name} failed: {error.stderr.decode().strip()}") from error
        return answer.stdout.decode().rstrip("\n")
