"""The engine's event log: one JSON object a line, `sdk/go/common/apitype/events.go` in Pulumi's sources.

It has debug events, and with them keys and kubeconfigs in the clear, so it never gets a name on the disk: it is gone with the last process
that has it open, however that ends. Pulumi has `--event-log` for its own Automation API.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Any

ENV = {"PULUMI_DEBUG_COMMANDS": "true"}
"""Without the variable Pulumi has no `--event-log`."""


class EventLog:
    """The log of one operation, for a `with` block."""

    def __init__(self) -> None:
        """Make it, empty."""
        self._file = _nameless()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def inherited(self) -> Sequence[int]:
        """What the engine's process has to have open."""
        return (self._file.fileno(),)

    @property
    def words(self) -> Sequence[str]:
        """What has the engine write it."""
        return ("--event-log", f"/dev/fd/{self._file.fileno()}")

    def events(self) -> Iterator[dict[str, Any]]:
        """What the engine has logged."""
        self._file.seek(0)
        for line in self._file:
            try:
                yield json.loads(line)
            except ValueError:
                return  # The engine was killed while it wrote this, its last line.


def _nameless() -> IO[bytes]:
    """A file in memory where the system has such; else one that has no name any more."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("events"), "w+b")
    return tempfile.TemporaryFile()
