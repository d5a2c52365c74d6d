"""`python -m ops.pull_request comment|preview|stacks`: what a pull request changes, for its readers."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actions.protocol import Failure
from ops import policies, workspace
from ops.errors import OpsError, reason
from ops.event_log import EventLog
from review import comment
from review.judge import judge
from review.preview import Preview, could_not, failing, judged, read
from review.rules.levels import Levels
from review.touched import touched

_DRIFT = ("--refresh", "--expect-no-changes")
_CHANGES = 7
"""Pulumi's exit code for changes that were not expected: `sdk/go/common/util/cmdutil/exit.go`."""


def main() -> int:
    """0 when all is well, 1 when a preview failed or a stack has drifted, 2 for wrong arguments."""
    arguments = _parse()
    try:
        return arguments.verb(arguments)
    except (OpsError, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code if isinstance(error, OpsError) else 1


def _comment(arguments: argparse.Namespace) -> int:
    """Turn what `pulumi preview --json` printed, on stdin, into the comment."""
    seen = read(sys.stdin.buffer.read())
    _write(arguments, comment.render(arguments.stack, seen, drift=arguments.drift))
    return 0


def _preview(arguments: argparse.Namespace) -> int:
    """Preview the stack that STACK names, and write the comment, also when that fails."""
    name, _ = workspace.choose_stack(os.environ.get("STACK"))
    try:
        workspace.read_stack_file(name).check()
        workspace.get_tools(name, machines=False)
        seen, well = preview(workspace.Stack.open(name), drift=arguments.drift)
    except (OpsError, Failure) as error:
        seen, well = could_not(str(error)), False
    _write(arguments, comment.render(name, seen, drift=arguments.drift))
    return 0 if well else 1


def preview(stack: workspace.Stack, *, drift: bool) -> tuple[Preview, bool]:
    """Preview the stack as the checkout describes it; and whether all is well: it can be done, and nothing has drifted.

    Args:
        stack: the stack.
        drift: whether to look at what is there first, and to expect that nothing has changed.

    Raises:
        Failure: Pulumi printed what is not known.
        OpsError: there is no Pulumi.
    """
    pack = [] if drift else policies.flags(stack)
    words = stack.on_stack("preview", "--json", *(_DRIFT if drift else pack or ["--show-sames"]))
    with EventLog() as log:
        ran = stack.run(*words, log=log if pack else None)
        found = policies.of_events(stack, log.events()).found if pack else []
    if not ran.stdout.strip():
        # It ended before there was anything to preview.
        return could_not(reason(ran.stderr)), False
    seen = read(ran.stdout)
    if not drift and not pack and not seen.failed:
        found = judge(seen, Levels.of_stack(stack.name)).found
    if found:
        seen = judged(seen, found)
    if ran.returncode not in (0, _CHANGES) and not seen.failed:
        # What it prints has no place for some reasons, such as a policy's.
        seen = failing(seen, reason(ran.stderr))
    return seen, (ran.returncode == 0 and not seen.failed) or (ran.returncode == _CHANGES and seen.new)


def _stacks(arguments: argparse.Namespace) -> int:
    """Print the stacks that changed files can touch, one a line; the files come on stdin, one a line."""
    files = workspace.stack_files()
    drivers = {name: workspace.driver_of(name) for name in files if arguments.of is None or name in arguments.of}
    names = touched(sys.stdin.read().splitlines(), drivers)
    print(json.dumps(names) if arguments.json else "\n".join(names))
    return 0


def _write(arguments: argparse.Namespace, text: str) -> None:
    if arguments.output:
        arguments.output.write_text(text)
    else:
        sys.stdout.write(text)


def _stack_name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+", text):
        raise argparse.ArgumentTypeError("letters, digits, - _ and . make a stack's name")
    return text


def _parse() -> argparse.Namespace:
    """The command line, and with it what `make … ARGS=` gave, which no shell has touched."""
    rendering = argparse.ArgumentParser(add_help=False)
    rendering.add_argument("--drift", action="store_true", help="about what was changed behind Pulumi's back")
    rendering.add_argument("--output", type=Path, metavar="FILE", help="where the comment goes, else stdout")
    parser = argparse.ArgumentParser(prog="python -m ops.pull_request", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, verb: Callable[[argparse.Namespace], int], *parents: argparse.ArgumentParser) -> Any:
        made = verbs.add_parser(name, help=verb.__doc__, description=verb.__doc__, parents=parents)
        made.set_defaults(verb=verb)
        return made

    of_text = add("comment", _comment, rendering)
    of_text.add_argument("--stack", type=_stack_name, required=True, help="whose preview it is")
    add("preview", _preview, rendering)
    stacks = add("stacks", _stacks)
    stacks.add_argument("--of", type=json.loads, metavar="NAMES", help="of these stacks only, a JSON list")
    stacks.add_argument("--json", action="store_true", help="as a JSON list")
    return parser.parse_args([*sys.argv[1:], *shlex.split(os.environ.get("ARGS", ""))])


if __name__ == "__main__":
    sys.exit(main())
