"""What `up` does when Pulumi has nothing to change and yet not everything is well.

Pulumi compares what it was told with what it is told; a WorkloadEntry that someone deleted, or a sidecar that died, is in neither. Members
join again, traffic is proven again, and then the cluster is watched until it agrees: what it says lags behind, and flips while istiod
starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from components.command_line import Deadline
from components.kube import wait
from ops import members, state
from ops.errors import OpsError
from ops.live import Live, look
from ops.workspace import Stack

CLUSTER_SECONDS = 180
"""How long a cluster whose machines have just been started may take until its nodes are Ready."""
TRAFFIC_SECONDS = 180
"""How long traffic may take then: nodes and entries say what was true before until pods have been restarted."""
SETTLE_SECONDS = 60
"""How long the cluster may take then to say that all is well."""
STEADY_LOOKS = 3
"""How often in a row it has to say so: a single time may be of before."""
LOOK_SECONDS = 1.0


def heal(stack: Stack, deployment: state.Deployment, live: Live, suspects: Iterable[str] = ()) -> Live:
    """Wait for the nodes, let members that are not healthy join again, prove traffic again, and wait until all is well.

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
    if live.unreachable or any(live.nodes.values()):
        return live
    suspected = set(suspects)
    # With a node the gateway may have moved, or istiod: every member is in question.
    everyone = bool(suspected - set(outputs["vms"]))
    names = [name for name, why in live.members.items() if everyone or why or name in suspected]
    if not names:
        return live
    problems = _join_again(stack, deployment, names)
    if problems:
        return replace(look(outputs), problems=problems, proof=[])
    seen, failed = _prove_again(stack, deployment)
    if failed:
        return replace(look(outputs), problems=failed, proof=seen)
    return replace(_wait_until_well(outputs), proof=seen)


def _wait_for_nodes(outputs: dict[str, Any], live: Live) -> Live:
    def again() -> str | None:
        nonlocal live
        live = look(outputs)
        waiting = [name for name, why in live.nodes.items() if why]
        return live.unreachable or (f"not Ready: {', '.join(waiting)}" if waiting else None)

    if live.unreachable or any(live.nodes.values()):
        print("heal: waiting for the cluster's nodes", flush=True)
        wait(again, Deadline(CLUSTER_SECONDS), pause=2)
    return live


def _join_again(stack: Stack, deployment: state.Deployment, names: list[str]) -> list[str]:
    """Let members join side by side; what went wrong."""
    documents = members.recorded(deployment)

    def join(name: str) -> str | None:
        print(f"heal: {name} joins the mesh again", flush=True)
        try:
            members.join(stack, name, documents[name])
        except OpsError as error:
            return f"{name} could not join again: {error}"
        return None

    with ThreadPoolExecutor() as pool:
        return [problem for problem in pool.map(join, names) if problem]


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


def _wait_until_well(outputs: dict[str, Any]) -> Live:
    """The last look of a row that says all is well, or of those that there was time for."""
    live, steady, told = Live(), 0, ""

    def again() -> str | None:
        nonlocal live, steady, told
        live = look(outputs)
        amiss = "; ".join(live.amiss)
        steady = 0 if amiss else steady + 1
        if amiss and amiss != told:
            print(f"heal: waiting, as {amiss}", flush=True)
            told = amiss
        return None if steady == STEADY_LOOKS else amiss or "all is well for the moment"

    wait(again, Deadline(SETTLE_SECONDS), pause=LOOK_SECONDS)
    return live
