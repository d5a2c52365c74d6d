"""Stopping what is under way when the operator stops the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from lab.plugins.failures import Cancelled


class Cancellation:
    """Set once, for good; whoever waits for something outside registers how that is ended."""

    def __init__(self) -> None:
        """Not cancelled."""
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._endings: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """End everything that is registered, and refuse what comes after."""
        with self._lock:
            self._asked.set()
            endings = list(self._endings)
        for end in endings:
            end()

    @property
    def asked(self) -> bool:
        """Whether the run was stopped."""
        return self._asked.is_set()

    def sleep(self, seconds: float) -> None:
        """Wait; raises `Cancelled` when the run is stopped meanwhile."""
        if self._asked.wait(seconds):
            raise Cancelled("the run was cancelled")

    @contextmanager
    def ending_by(self, end: Callable[[], None]) -> Generator[None, None, None]:
        """Call `end` if the run is stopped inside the block; raises `Cancelled` if it already was."""
        with self._lock:
            if self._asked.is_set():
                raise Cancelled("the run was cancelled")
            self._endings.append(end)
        try:
            yield
        finally:
            with self._lock:
                self._endings.remove(end)
