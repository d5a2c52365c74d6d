"""Nodes that someone has deleted from the cluster while their machines run on, and their pods.

They come back before anything is read from the cluster: gateways have addresses by its nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actions.protocol import Action
from actions.registry import MEMBER, RENUMBER
from ops import state
from ops.errors import OpsError
from ops.live import MISSING, look
from ops.workspace import Stack


def bring_back(stack: Stack, deployment: state.Deployment) -> tuple[str, ...]:
    """Have nodes that someone deleted register again, and pods that nobody reaches since start anew; quick when there are none.

    Args:
        stack: the stack.
        deployment: its state.

    Returns:
        The names of these nodes, where it went well; of others the end of `up` tells.
    """
    outputs = state.outputs(deployment)
    known = {one["node"]: one for _, one in state.requests(deployment, MEMBER)}
    if "kubeconfig" not in outputs or not known:
        return ()
    live = look(outputs)
    missing = {name: known[name] for name, why in live.nodes.items() if why == MISSING and name in known}
    back = _on_nodes(stack, MEMBER, missing, "registers with the cluster again")
    # A node may come back with another range of addresses for its pods.
    others = look(outputs).renumbered if missing else live.renumbered
    pods = {
        name: {"node": name, "machine": known[name]["machine"], "pod_range": one.pod_range, "former": one.former}
        for name, one in others.items()
        if known.get(name, {}).get("machine")
    }
    renumbered = _on_nodes(stack, RENUMBER, pods, "has pods at addresses of a range that it had before")
    return tuple(sorted({*back, *renumbered}))


def _on_nodes(
    stack: Stack, action: Action[Any, Any], documents: Mapping[str, Mapping[str, Any]], said: str
) -> Collection[str]:
    """Do something with nodes side by side; with which it went well."""

    def act(name: str) -> bool:
        print(f"repair: {name} {said}", flush=True)
        try:
            stack.act(action, documents[name], lambda line: print(f"  {name} {line}", flush=True))
        except OpsError as error:
            print(f"repair: {name} cannot be brought back: {error}", flush=True)
            return False
        return True

    with ThreadPoolExecutor() as pool:
        return [name for name, well in zip(documents, pool.map(act, documents), strict=True) if well]
