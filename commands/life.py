"""The life of an environment: what `up` would change, up, down."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

from commands.context import StackName, alone, choose, console, open_for_preview
from components.settings import DriverName
from ops import engine, policies, protection, state, summary, timeline, versions, workspace
from ops.errors import OperationFailed, OpsError
from ops.event_log import EventLog
from ops.finding import count
from ops.finish import finish
from ops.heal import Healed, heal
from ops.proof import RESOURCE as PROOF
from ops.repair import Repaired, clear_up, remember, repair, repair_cluster, sweep
from ops.workspace import Stack


def up(stack: StackName = None) -> int:
    """Bring the stack up, prove it, print a summary."""
    name = choose(stack, tell=True)
    file = workspace.read_stack_file(name)
    # The lab's files are made by its tools; no mistake is worth waiting for these.
    file.check(files=file.driver != DriverName.NSPAWN)
    workspace.get_tools(name, machines=True)
    file.check(files=True)
    started, clock = datetime.now(UTC), time.monotonic()
    with alone(name, "up"):
        return _up(Stack.open(name), started, clock)


def _up(stack: Stack, started: datetime, clock: float) -> int:
    versions.refuse_step(stack)
    repaired = repair(stack)
    remember(stack)
    policies.before_up(stack)
    deployment, healed = _apply(stack, repaired)
    if not repaired.compared:
        late = repair_cluster(stack, deployment, Repaired())
        if late.replace or late.again:
            deployment, again = _apply(stack, late)
            healed = replace(again, at=again.at or healed.at)
    clear_up(stack, deployment, repaired)
    ended = finish(stack, deployment, healed, started)
    summary.show(state.outputs(deployment), ended.status, ended.proof, ended.findings, console)
    chain = timeline.longest_chain(state.resources(deployment), started)
    summary.show_chain(chain, time.monotonic() - clock, console)
    if ended.findings:
        raise OpsError(f"not all is well with stack {stack.name}: {count(ended.findings)}, see above")
    return 0


def _apply(stack: Stack, repaired: Repaired) -> tuple[state.Deployment, Healed]:
    """Make the world what the program says, and heal what is not well nevertheless: the state afterwards, and what healing came to."""
    again = [word for urn in repaired.replace for word in ("--replace", urn)]
    after = f"`make up STACK={stack.name}` goes on from here, `make down STACK={stack.name}` takes all of it down"
    words = ["--yes", "--skip-preview", "--suppress-outputs", *policies.flags(stack)]
    try:
        engine.operate(stack, "up", *words, *again, after=after)
    except OperationFailed as error:
        # Calls go unanswered as well where somebody has harmed a member that the change has nothing to do with.
        if list(error.failed) != [PROOF] or not _heals(stack, repaired.suspects):
            raise
        engine.operate(stack, "up", *words, after=after)
    deployment = stack.deployment()
    return deployment, heal(stack, deployment, repaired.suspects)


def _heals(stack: Stack, suspects: Collection[str]) -> bool:
    """Whether something was not well that has been put right."""
    deployment = stack.deployment()
    if "vms" not in state.outputs(deployment):
        return False
    healed = heal(stack, deployment, suspects)
    return bool(healed.at) and not healed.failed and not healed.in_vain


def down(stack: StackName = None) -> int:
    """Remove everything of the stack, its state included; only the tool cache stays."""
    name = choose(stack, tell=True)
    found = Stack(name, workspace.environment())
    if not found.folder.exists() and not found.exists():
        console.print(f"stack {name} is not up; there is nothing to take down", highlight=False)
        return 0
    with alone(name, "down"):
        return _down(found)


def _down(stack: Stack) -> int:
    name = stack.name
    if stack.exists():
        stack = Stack.find(name)
        protection.refuse_to_destroy(stack, stack.deployment())
        repair(stack, to_destroy=True)
        after = f"`make down STACK={name}` goes on from here"
        # By the state alone: the settings may be in need of repair.
        words = ("--yes", "--skip-preview", "--suppress-outputs", "--skip-config-validation")
        engine.operate(stack, "destroy", *words, after=after)
        sweep(stack)
        stack.pulumi("stack", "rm", name, "--yes", "--preserve-config")
    workspace.forget(stack)
    console.print(f"stack {name} is gone; the tool cache stays", highlight=False)
    return 0


def preview(stack: StackName = None) -> int:
    """Show what `up` would change; needs no cluster and no driver."""
    opened = open_for_preview(choose(stack, tell=True))
    versions.refuse_step(opened)
    with EventLog() as log:
        engine.operate(opened, "preview", *policies.flags(opened), log=log)
        policies.after_preview(opened, log)
    return 0


def policy(stack: StackName = None) -> int:
    """Judge what `up` would make of the stack by its policies."""
    opened = open_for_preview(choose(stack, tell=True))
    policies.tell(opened, policies.judged_preview(opened))
    return 0
