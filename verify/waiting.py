"""How long something takes to come about."""

from __future__ import annotations

import time
from collections.abc import Callable

from actions.kube import wait
from actions.protocol import Deadline, Failure


def until(what: str, there: Callable[[], bool], seconds: float, pause: float = 0.3) -> float:
    """Seconds until it is there.

    Raises:
        Failure: it was not in time.
    """
    started = time.monotonic()
    if wait(lambda: None if there() else what, Deadline(seconds), time.sleep, pause):
        raise Failure(f"not within {seconds:.0f} s: {what}")
    return time.monotonic() - started
