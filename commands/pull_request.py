"""What a pull request changes, for its readers: `istio-vms pull-request preview|comment|stacks`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from actions.protocol import Failure
from commands.context import StackName, choose, open_for_preview
from ops import pull_request, workspace
from ops.errors import OpsError
from review import comment as comments
from review.preview import could_not, read
from review.touched import touched

Drift = Annotated[bool, typer.Option("--drift", help="About what was changed behind Pulumi's back.")]
Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Where the comment goes, else stdout.")]


def preview(stack: StackName = None, drift: Drift = False, output: Output = None) -> int:
    """Preview a stack and write the comment, also when that fails."""
    name = choose(stack, tell=False)
    try:
        seen, well = pull_request.preview(open_for_preview(name), drift=drift)
    except (OpsError, Failure) as error:
        seen, well = could_not(str(error)), False
    _write(output, comments.render(name, seen, drift=drift))
    return 0 if well else 1


def comment(
    stack: Annotated[str, typer.Option("--stack", "-s", help="Whose preview it is.")],
    drift: Drift = False,
    output: Output = None,
) -> int:
    """Turn what `pulumi preview --json` printed, on stdin, into the comment."""
    if not re.fullmatch(r"[\w.-]+", stack):
        raise typer.BadParameter("--stack: letters, digits, - _ and . make a stack's name")
    _write(output, comments.render(stack, read(sys.stdin.buffer.read()), drift=drift))
    return 0


def stacks(
    of: Annotated[str | None, typer.Option("--of", metavar="NAMES", help="Of these stacks only, a JSON list.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> int:
    """Print the stacks that changed files can touch, one a line; the files come on stdin, one a line."""
    wanted: Any = None if of is None else json.loads(of)
    files = workspace.stack_files()
    drivers = {name: workspace.driver_of(name) for name in files if wanted is None or name in wanted}
    names = touched(sys.stdin.read().splitlines(), drivers)
    print(json.dumps(names) if as_json else "\n".join(names))
    return 0


def _write(output: Path | None, text: str) -> None:
    if output:
        output.write_text(text)
    else:
        sys.stdout.write(text)
