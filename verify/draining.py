"""Waiting until Envoy serves nobody any more by what the last `up` has changed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from ops import state

DRAIN = timedelta(seconds=50)
"""Istio's sidecars close what came to a listener's former definition 45 s after it changed (`drainDuration` of the mesh's configuration),
whatever is under way on it: a call may be lost then. The rest is for istiod to tell them."""
_CONFIGURES = re.compile(r"kubernetes:(networking|security|telemetry)\.istio\.io/")


def left(deployment: state.Deployment, now: datetime) -> float:
    """Seconds until the last change of what configures sidecars is through; 0 when it is.

    Args:
        deployment: the stack's state, whose `modified` is when a resource was last made or changed.
        now: the time, with its zone.
    """
    changed = [
        datetime.fromisoformat(resource["modified"])
        for resource in state.resources(deployment)
        if _CONFIGURES.match(resource["type"]) and resource.get("modified")
    ]
    # An operator's clock may be behind the one that noted it.
    until = max((when + DRAIN - now for when in changed), default=timedelta(0))
    return max(timedelta(0), min(DRAIN, until)).total_seconds()
