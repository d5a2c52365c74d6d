"""Stacks and their files: a new one, two compared, what documents them; and Pulumi by hand."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import typer

from commands.context import AsJson, console
from components.settings.document import GENERATED
from ops import diff_stacks as differences
from ops import new_stack as stacks
from ops import workspace


def new_stack(
    name: Annotated[str, typer.Argument(envvar="NAME", help="The new stack's name.")] = "",
    source: Annotated[str, typer.Option("--from", envvar="FROM", help="The stack to begin with.")] = "dev",
) -> int:
    """Write Pulumi.NAME.yaml from another stack's, every setting explained."""
    for line in stacks.write(name, source or "dev"):
        console.print(line, highlight=False)
    return 0


def diff_stacks(
    a: Annotated[str, typer.Argument(envvar="A", help="A stack.")] = "",
    b: Annotated[str, typer.Argument(envvar="B", help="Another one.")] = "",
    as_json: AsJson = False,
) -> int:
    """Show what differs between two stacks' settings, defaults applied."""
    found = differences.compare(a, b)
    if as_json:
        print(differences.as_json(found, a, b))
    else:
        differences.show(found, a, b, console)
    return 0


def docs() -> int:
    """Write what docs/settings.md and Pulumi.yaml say of settings, from their models."""
    for name, generate in GENERATED.items():
        file = workspace.ROOT / name
        file.write_text(generate(file.read_text()))
        console.print(f"wrote {name}", highlight=False)
    return 0


def env() -> int:
    """Print what to eval in a shell to run pulumi by hand."""
    for key, value in workspace.environment().items():
        if os.environ.get(key) != value:
            print(f"export {key}={shlex.quote(value)}")
    for key in os.environ.keys() - workspace.environment().keys():
        print(f"unset {key}")
    return 0


def run(command: Annotated[list[str], typer.Argument(help="The command and its arguments.")]) -> int:
    """Run a command with Pulumi's environment."""
    return workspace.run(command)
