"""What `up` does when Pulumi has nothing to change and yet not everything is well.

Pulumi compares what it was told with what it is told; a WorkloadEntry that someone deleted, or a sidecar that died, is in neither. Joining
is idempotent, so it is done again with the very document that the state has of it, and then traffic is proven again.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from components.command_line import Deadline
from components.kube import wait
from ops import state, summary
from ops.errors import OpsError
from ops.summary import Live
from ops.workspace import Stack

CLUSTER_SECONDS = 180
"""How long a cluster whose machines have just been started may take until its nodes are Ready."""
MEMBER_SECONDS = 120
"""How long a member may take to join again; its machine is set up already."""
TRAFFIC_SECONDS = 180
"""How long traffic may take then: nodes and entries say what was true before until pods have been restarted."""


def heal(stack: Stack, deployment: state.Deployment, live: Live, suspects: Iterable[str] = ()) -> Live:
    """Wait for the nodes, let members that are not healthy join again, and prove traffic again.

    Args:
        stack: the stack.
        deployment: its state, after an `up` that succeeded.
        live: what the cluster says.
        suspects: machines that have just been started, of which the cluster may say what was true before.

    Returns:
        What the cluster says afterwards, with new evidence of traffic if that was asked for; `problems` has what did not succeed.
    """
    outputs = state.outputs(deployment)
    live = _wait_for_nodes(outputs, live)
    if live.unreachable or not all(live.nodes.values()):
        return live
    suspected = set(suspects)
    # With a node the gateway may have moved, or istiod: every member is in question.
    everyone = bool(suspected - set(outputs["vms"]))
    members = [name for name, good in live.entries.items() if everyone or not good or name in suspected]
    if not members:
        return live
    problems = _join_again(stack, deployment, outputs, members)
    if problems:
        return replace(summary.look(outputs), problems=problems, proof=[])
    seen, failed = _prove_again(stack, deployment)
    return replace(summary.look(outputs), problems=failed, proof=seen)


def _wait_for_nodes(outputs: dict[str, Any], live: Live) -> Live:
    def look() -> str | None:
        nonlocal live
        live = summary.look(outputs)
        waiting = [name for name, ready in live.nodes.items() if not ready]
        return live.unreachable or (f"not Ready: {', '.join(waiting)}" if waiting else None)

    if live.unreachable or not all(live.nodes.values()):
        print("heal: waiting for the cluster's nodes", flush=True)
        wait(look, Deadline(CLUSTER_SECONDS), pause=2)
    return live


def _join_again(stack: Stack, deployment: state.Deployment, outputs: dict[str, Any], members: list[str]) -> list[str]:
    """Let the members join side by side; what went wrong."""
    recorded = {
        (document["member"]["namespace"], document["ssh"]["host"]): document
        for _, document in state.documents(deployment, "components.workloads", "join")
    }

    def join(name: str) -> str | None:
        vm = outputs["vms"][name]
        print(f"heal: {name} joins the mesh again", flush=True)
        try:
            stack.module(
                "components.workloads",
                "join",
                {**recorded[vm["namespace"], vm["address"]], "timeout_seconds": MEMBER_SECONDS},
                tell=lambda line: print(f"  {name} {line}", flush=True),
            )
        except OpsError as error:
            return f"{name} could not join again: {error}"
        return None

    with ThreadPoolExecutor() as pool:
        return [problem for problem in pool.map(join, members) if problem]


def _prove_again(stack: Stack, deployment: state.Deployment) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """New evidence, None where the program proves nothing; and what went wrong."""
    for _, document in state.documents(deployment, "components.samples", "prove"):
        print("heal: proving traffic again", flush=True)
        patient = {**document, "timeout_seconds": TRAFFIC_SECONDS}
        try:
            return stack.module("components.samples", "prove", patient, tell=lambda line: print(f"  {line}")), []
        except OpsError as error:
            return [], [f"traffic could not be proven: {error}"]
    return None, []
