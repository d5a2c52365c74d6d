"""Waiting until Envoy serves nobody any more by what the last `up` has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

DRAIN = timedelta(seconds=50)
"""Sidecars close what came to a listener's former definition 45 s after it changed (`drainDuration` of Istio's mesh configuration),
whatever is under way on it: a call may be lost then. The rest is for istiod to tell them."""


def left(history: Sequence[Mapping[str, Any]], now: datetime) -> float:
    """Seconds until the last change of the stack is through; 0 when it is, or when there was none.

    What an operation has deleted is in no state any more, hence its history.

    Args:
        history: what `pulumi stack history --json` prints, its latest operations.
        now: the time, with its zone.
    """
    changed = [
        datetime.fromisoformat(operation["endTime"])
        for operation in history
        if operation.get("endTime") and {*(operation.get("resourceChanges") or {"unknown": 1})} - {"same", "read"}
    ]
    until = max((when + DRAIN - now for when in changed), default=timedelta(0))
    # An operator's clock may be behind the one that noted it.
    return max(timedelta(0), min(DRAIN, until)).total_seconds()
