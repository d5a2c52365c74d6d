"""What people see while tools are being made."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

HEARTBEAT_SECONDS = 20


@dataclass
class _Activity:
    text: str
    since: float


class Progress:
    """Lines on standard error: what changes, and every so often what still goes on."""

    def __init__(self) -> None:
        """The clock starts now."""
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._activities: dict[str, _Activity] = {}

    def say(self, name: str, text: str) -> None:
        """One line about a tool."""
        elapsed = time.monotonic() - self._start
        with self._lock:
            print(f"[{elapsed:4.0f} s] {name}: {text}", file=sys.stderr, flush=True)

    @contextmanager
    def activity(self, name: str, text: str, *, quiet: bool = False) -> Generator[None]:
        """What a tool is at for the length of the block; a quiet one is told by the heartbeat only."""
        if not quiet:
            self.say(name, text)
        with self._lock:
            self._activities[name] = _Activity(text, time.monotonic())
        try:
            yield
        finally:
            with self._lock:
                self._activities.pop(name, None)

    @contextmanager
    def heartbeat(self) -> Generator[None]:
        """Tell what goes on every HEARTBEAT_SECONDS until the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=[ended], daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            now = time.monotonic()
            with self._lock:
                current = [f"{name} {did.text} {now - did.since:.0f} s" for name, did in self._activities.items()]
            if current:
                self.say("still", ", ".join(current))
