"""What `up` does when Pulumi has nothing to change and yet not everything is well.

Pulumi compares what it was told with what it is told; a WorkloadEntry that someone deleted, or a sidecar that died, is in neither. Members
join again, and the cluster is watched until it agrees: what it says lags behind, and flips while istiod starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actions.kube import ApiCluster, KubeError, wait
from actions.protocol import Deadline
from actions.workloads.entry import GROUP_ANNOTATION, path
from ops import members, objects, readings, state
from ops.errors import OpsError
from ops.finding import Finding
from ops.live import Live, look, node_names
from ops.status.model import Status
from ops.workspace import Stack

CLUSTER_SECONDS = 180
"""How long a cluster whose machines have just been started may take until its nodes are Ready."""
SETTLE_SECONDS = 60
"""How long the cluster may take then to say that all is well."""
STEADY_LOOKS = 3
"""How often in a row it has to say so: a single time may be of before."""
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Healed:
    """What healing came to.

    Attributes:
        at: when something was last waited for or put right; None when all was well.
        failed: members that could not be put right.
        in_vain: whether nodes, or the whole cluster, did not come in time: nobody need wait for them again.
        unreachable: whether the cluster does not answer.
    """

    at: datetime | None = None
    failed: Sequence[Finding] = ()
    in_vain: bool = False
    unreachable: bool = False


def heal(stack: Stack, deployment: state.Deployment, suspects: Iterable[str] = ()) -> Healed:
    """Wait for the cluster's nodes, and let members that are not healthy join again.

    Args:
        stack: the stack.
        deployment: its state, after an `up` that succeeded.
        suspects: machines that have just been started or reached elsewhere, and nodes that came back, of which the cluster may say what
            was true before.
    """
    outputs = state.outputs(deployment)
    live = look(outputs)
    waited = bool(live.unreachable or live.not_ready)
    live = _wait_for_nodes(outputs, live)
    if live.unreachable or live.not_ready:
        return Healed(in_vain=True, unreachable=bool(live.unreachable))
    _remove_cut_off(deployment, outputs, live)
    suspected = set(suspects)
    # With a node the gateway may have moved, or istiod: every member is in question. A suspect that the stack has no more is none.
    everyone = bool(suspected & set(node_names(outputs)))
    names = [name for name, why in live.members.items() if everyone or why or name in suspected]
    failed = _join_again(stack, deployment, names, patient=bool(suspected)) if names else ()
    return Healed(datetime.now(UTC) if waited or names else None, failed, in_vain=bool(failed))


def _wait_for_nodes(outputs: dict[str, Any], live: Live) -> Live:
    def again() -> str | None:
        nonlocal live
        live = look(outputs)
        return live.unreachable or ", ".join(live.not_ready) or None

    if live.unreachable or live.not_ready:
        print("heal: waiting for the cluster's nodes", flush=True)
        wait(again, Deadline(CLUSTER_SECONDS), pause=2)
    return live


def _remove_cut_off(deployment: state.Deployment, outputs: dict[str, Any], live: Live) -> None:
    """Have nobody sent to where a VM of ours was before."""
    if not live.cut_off:
        return
    cluster, groups = ApiCluster(outputs["kubeconfig"]), objects.groups(deployment)
    for entry in live.cut_off:
        metadata = entry["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if (namespace, metadata["annotations"][GROUP_ANNOTATION]) in groups:
            print(f"heal: WorkloadEntry {namespace}/{name} is of no VM any more, and goes", flush=True)
            try:
                cluster.delete(path(namespace, name))
            except KubeError as error:
                print(f"heal: it could not be removed: {error}", flush=True)


def _join_again(
    stack: Stack, deployment: state.Deployment, names: Sequence[str], *, patient: bool
) -> tuple[Finding, ...]:
    """Let members join side by side; what went wrong."""
    documents = members.recorded(deployment)

    def join(name: str) -> Finding | None:
        print(f"heal: {name} joins the mesh again", flush=True)
        try:
            members.join(stack, name, readings.renewed(deployment, documents[name]), patient=patient)
        except OpsError as error:
            rejoin = f"make rejoin STACK={stack.name} VM={name.removeprefix(f'{stack.name}-')}"
            what_to_do = f"what else is told here comes first; then `{rejoin}`"
            return Finding("member-cannot-join", f"VM {name}", f"could not join again: {error}", what_to_do)
        return None

    with ThreadPoolExecutor() as pool:
        return tuple(problem for problem in pool.map(join, names) if problem)


def settle(look_at_everything: Callable[[], Status], healed: Healed) -> Status:
    """The last look of a row that found nothing, or of those that there was time for; what cannot pass by itself is not waited for.

    Args:
        look_at_everything: how to look.
        healed: what has just been healed: after that a single look may be of before.
    """
    looks: list[Status] = []
    steady, told = 0, set[tuple[str, str]]()

    def again() -> str | None:
        nonlocal steady, told
        looks.append(look_at_everything())
        amiss = "; ".join(map(str, looks[-1].findings))
        kinds = {(finding.id, finding.subject) for finding in looks[-1].findings}
        steady = 0 if amiss else steady + 1
        if (amiss and not looks[-1].may_pass) or steady == (STEADY_LOOKS if healed.at else 1):
            return None
        # What is said of them may have the time in it.
        if kinds - told:
            print(f"heal: waiting, as {amiss}", flush=True)
        told = kinds
        return amiss or "all is well for the moment"

    wait(again, Deadline(0 if healed.in_vain else SETTLE_SECONDS), pause=LOOK_SECONDS)
    return looks[-1]
