"""Kubernetes' release in the settings beside the one that the cluster has: what a node would refuse is said before anything is done."""

from __future__ import annotations

from typing import Any

from actions.cluster.versions import why_not
from ops import state
from ops.errors import OpsError
from ops.workspace import PROJECT, Stack


def refuse_step(stack: Stack) -> None:
    """See that the cluster of the last `up` can become what the stack file says.

    Raises:
        OpsError: it cannot; the message says which release could be next.
    """
    old = _release(state.outputs(stack.deployment()).get("settings"))
    new = old and _release(stack.settings())
    if why := why_not(old, new):
        raise OpsError(f"{PROJECT}:cluster.version: {new}: {why}. Nothing was changed")


def _release(tables: Any) -> str:
    """The k3s release that settings name; none of another cluster, nor where the settings are no such thing."""
    try:
        return str(tables["cluster"]["version"])
    except (KeyError, TypeError):
        return ""
