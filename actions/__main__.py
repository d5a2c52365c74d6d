"""Run one action: `python3 -m actions NAME < request.json`.

The result goes to stdout, progress to stderr. After a failure the last thing on stderr says what to do, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from actions.protocol import Action, Failure, dump_result, parse
from actions.registry import ACTIONS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the action that the arguments name, by default those of the command line; the exit code."""
    listed = "\n".join(f"  {name:<24} {(one.run.__doc__ or '').splitlines()[0]}" for name, one in ACTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python3 -m actions",
        description=__doc__,
        epilog=f"actions:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=list(ACTIONS))
    return _run(ACTIONS[parser.parse_args(arguments).name])


def _run(action: Action[Any, Any]) -> int:
    started = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", file=sys.stderr, flush=True)

    try:
        result = action.run(parse(action.request, sys.stdin.buffer.read()), progress)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    print(dump_result(action, result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
