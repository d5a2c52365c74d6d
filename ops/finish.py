"""The end of `up`: traffic is proven, and everything is looked at, as `status` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ops import state
from ops.finding import Finding
from ops.heal import Healed, settle
from ops.proof import CALL_SECONDS, HEALED_SECONDS, Proof, prove
from ops.status.look import look
from ops.status.model import Status
from ops.workspace import Stack


@dataclass(frozen=True)
class Ended:
    """How an `up` ended: what there is, what was proven, and what is not well."""

    status: Status
    proof: Proof
    findings: Sequence[Finding]


def finish(stack: Stack, deployment: state.Deployment, healed: Healed, started: datetime) -> Ended:
    """Prove traffic, then look at everything; again while what was found may pass.

    Args:
        stack: the stack.
        deployment: its state, after Pulumi's last run.
        healed: what was healed then.
        started: when this `up` began.
    """
    proof = Proof()
    if not healed.failed and not healed.unreachable:
        since, seconds = (healed.at, HEALED_SECONDS) if healed.at else (started, CALL_SECONDS)
        proof = prove(stack, deployment, since, seconds)
    status = settle(lambda: look(stack, deployment), healed)
    return Ended(status, proof, [*status.findings, *healed.failed, *proof.failed])
