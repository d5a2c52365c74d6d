"""Lets VMs join the mesh again.

Joining is idempotent, so it is done with the document that the state has of it, and what `ops.readings` finds to be outdated in it: with a
new token, and with a restart of the sidecar only where something it reads has changed.
"""

from __future__ import annotations

from typing import Any

from actions.registry import JOIN
from ops import state
from ops.workspace import Stack

JOIN_SECONDS = 120
"""How long a member may take to join again; its machine is set up already."""


def recorded(deployment: state.Deployment) -> dict[str, dict[str, Any]]:
    """What each VM read when it joined, by the machine's name: `actions.workloads.join.JoinRequest`.

    VMs that have not joined yet are missing.
    """
    by_address = {
        (document["member"]["namespace"], document["ssh"]["host"]): document
        for _, document in state.requests(deployment, JOIN)
    }
    vms = state.outputs(deployment).get("vms", {})
    keys = {name: (vm["namespace"], vm["address"]) for name, vm in vms.items()}
    return {name: by_address[key] for name, key in keys.items() if key in by_address}


def join(stack: Stack, name: str, document: dict[str, Any], *, patient: bool = False) -> dict[str, Any]:
    """Let a VM join again, telling of its progress: `{"workload_entry", "namespace", "address", "healthy", "connected_at"}`.

    Args:
        stack: the stack.
        name: the machine's.
        document: what the VM reads.
        patient: whether the gateway may be just starting, too.

    Raises:
        OpsError: it is not a healthy member in time.
    """
    patience = {"gateway_seconds": JOIN_SECONDS} if patient else {}
    return stack.act(
        JOIN,
        {**document, "timeout_seconds": JOIN_SECONDS, **patience},
        tell=lambda line: print(f"  {name} {line}", flush=True),
    )
