"""What several commands need: the stack that is meant, its state, a machine by its name."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer
from rich.console import Console

from ops import lock, state, workspace
from ops.errors import OpsError
from ops.workspace import Stack

console = Console(soft_wrap=True, emoji=False)

StackName = Annotated[
    str | None,
    typer.Option(
        "--stack", "-s", envvar="STACK", help="The stack. Without it dev, or lab where Multipass is not installed."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def choose(stack: str | None, *, tell: bool) -> str:
    """The stack to work on.

    Raises:
        OpsError: there is no such stack.
    """
    name, why = workspace.choose_stack(stack)
    if tell:
        plugins = "Pulumi's own" if workspace.official_plugins() else "the lab's stand-ins"
        console.print(f"stack {name} ({why}); providers: {plugins}", highlight=False)
    return name


def open_for_preview(name: str) -> Stack:
    """The stack, with its file checked and what a preview needs at hand.

    Raises:
        OpsError: the file is not in order, or a tool could not be had.
    """
    workspace.read_stack_file(name).check()
    workspace.get_tools(name, machines=False)
    return Stack.open(name)


def alone(stack: str, verb: str) -> AbstractContextManager[None]:
    """No other command changes the stack meanwhile."""
    return lock.alone(workspace.folder_of(stack), stack, verb)


def stack_with(stack: str | None, needed: str) -> tuple[Stack, state.Deployment, dict[str, Any]]:
    """The stack, its state and its outputs, of which one is needed.

    Raises:
        OpsError: the stack is not up.
    """
    found = Stack.find(choose(stack, tell=False))
    deployment = found.deployment()
    outputs = state.outputs(deployment)
    if needed not in outputs:
        raise OpsError(f"stack {found.name} is not up; `make up STACK={found.name}` brings it up")
    return found, deployment, outputs


def named(stack: Stack, wanted: str | None, known: Iterable[str]) -> str:
    """A machine by its name, with the stack's name in front or without.

    Raises:
        OpsError: there is no such machine.
    """
    names = list(known)
    for name in (wanted, f"{stack.name}-{wanted}"):
        if name in names:
            return name
    raise OpsError(f"VM={wanted or '(not given)'}: stack {stack.name} has {', '.join(names)}")
