"""The proof of traffic at the end of every `up`.

Pulumi makes the calls again when something that they were told has changed; what a mesh answers changes without that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actions.registry import PROVE
from ops import state
from ops.errors import ActionFailed
from ops.finding import Finding
from ops.workspace import Stack

CALL_SECONDS = 30
"""How long calls may take to be answered where all was well a moment ago: what has just been restarted is served within seconds."""
HEALED_SECONDS = 180
"""How long they may take where members or nodes came back: the cluster says what was true before until pods have been restarted."""
RESOURCE = "proof-calls"
_FAILED_CALL = re.compile(r"\s+(?P<call>[^:]+ → [^:]+): (?P<why>.+)")


@dataclass(frozen=True)
class Proof:
    """What the calls of this `up` showed.

    Attributes:
        seen: the evidence: `actions.samples.proof.Evidence`, one a call. None while a call failed.
        at: when it was seen; None where the stack has nothing to call, or nothing was called.
        failed: the calls that were not answered as they should be.
    """

    seen: Sequence[Mapping[str, Any]] = ()
    at: datetime | None = None
    failed: Sequence[Finding] = ()


def prove(stack: Stack, deployment: state.Deployment, since: datetime, seconds: float) -> Proof:
    """Make the calls, unless Pulumi itself has made them since.

    Args:
        stack: the stack.
        deployment: its state, after an `up` that succeeded.
        since: when what is proven was last touched.
        seconds: how long the calls may take.
    """
    for urn, document in state.requests(deployment, PROVE):
        made = state.changed_at(deployment, urn)
        if made and made > since:
            return Proof(state.results(deployment, PROVE)[urn], made)
        print("proof: calling every VM from a pod, and pods from every VM", flush=True)
        try:
            seen = stack.act(PROVE, {**document, "timeout_seconds": seconds})
        except ActionFailed as error:
            return Proof(failed=_failed(stack, error))
        return Proof(seen, datetime.now(UTC))
    return Proof()


def _failed(stack: Stack, error: ActionFailed) -> list[Finding]:
    """A finding for each call that failed; the message names them, a line each."""
    calls = [found for line in error.lines if (found := _FAILED_CALL.fullmatch(line))]
    what_to_do = f"what else is told here comes first; `make verify STACK={stack.name} ARGS=--calm` shows which promise does not hold"
    if not calls:
        return [Finding("call-failed", "the proof of traffic", f"could not be made: {error}", what_to_do)]
    return [Finding("call-failed", f"call {one['call']}", f"failed: {one['why']}", what_to_do) for one in calls]
