"""Every promise of the mesh, shown with real traffic."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from commands.context import AsJson, StackName, stack_with
from ops.status.look import look
from verify import draining
from verify.checks import CHECKS, Check
from verify.environment import Environment
from verify.report import as_document, show
from verify.run import Result, run

LOG_COLUMNS = 160
"""The table's width where it does not go to a terminal."""
errors = Console(stderr=True, soft_wrap=True)


def verify(
    stack: StackName = None,
    as_json: AsJson = False,
    listed: Annotated[bool, typer.Option("--list", help="List the checks and what they disturb; run none.")] = False,
    calm: Annotated[bool, typer.Option("--calm", help="Only checks that disturb nothing.")] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="NAME[,NAME…]", help="Only these checks.")] = None,
) -> int:
    """Show every promise of the mesh with real traffic; fails when one does not hold."""
    if listed:
        for check in CHECKS:
            print(f"{check.name:15}{check.title}{f' (disturbs {check.disturbs})' if check.disturbs else ''}")
        return 0
    name, results = _verify(stack, _chosen(only, calm=calm))
    if as_json:
        json.dump(as_document(name, results), sys.stdout, indent=2)
        print()
    else:
        show(name, results, Console(width=None if sys.stdout.isatty() else LOG_COLUMNS))
    return 0 if all(result.passed for result in results) else 1


def _chosen(only: str | None, *, calm: bool) -> list[Check]:
    names = [] if only is None else only.split(",")
    known = [check.name for check in CHECKS]
    if wrong := [name for name in names if name not in known]:
        raise typer.BadParameter(f"--only: no such check: {', '.join(wrong)}; there are {', '.join(known)}")
    chosen = [check for check in CHECKS if (not names or check.name in names) and not (calm and check.disturbs)]
    if names and not chosen:
        raise typer.BadParameter(f"--calm leaves nothing of --only {only}")
    return chosen


def _verify(stack: str | None, checks: Sequence[Check]) -> tuple[str, list[Result]]:
    opened, deployment, outputs = stack_with(stack, "vms")
    history = json.loads(opened.pulumi("stack", "history", "--stack", opened.name, "--json", "--page-size", "5"))
    if seconds := draining.left(history, datetime.now(UTC)):
        errors.print(
            f"waiting {seconds:.0f} s: until then Envoy may cut connections that the last `make up` has outdated"
        )
        time.sleep(seconds)
    with Environment.of(opened.name, outputs, lambda: look(opened, deployment)) as env:
        return opened.name, [run(check, env, errors) for check in checks]
