"""Previewing a stack, with what Pulumi prints kept for the comment."""

from __future__ import annotations

import subprocess

from ops import workspace
from ops.errors import missing_pulumi, reason
from pull_request.preview import Preview, could_not, failing, read

_DRIFT = ("--refresh", "--expect-no-changes")
_CHANGES = 7
"""Pulumi's exit code for changes that were not expected: `sdk/go/common/util/cmdutil/exit.go`."""


def preview(stack: workspace.Stack, *, drift: bool) -> tuple[Preview, bool]:
    """Preview the stack as the checkout describes it; and whether all is well: it can be done, and nothing has drifted.

    Args:
        stack: the stack.
        drift: whether to look at what is there first, and to expect that nothing has changed.

    Raises:
        Failure: Pulumi printed what is not known.
        OpsError: there is no Pulumi.
    """
    words = stack.on_stack("preview", "--json", *(_DRIFT if drift else ()), "--non-interactive", "--color", "never")
    try:
        ran = subprocess.run(
            ["pulumi", *words],
            cwd=workspace.ROOT,
            env=dict(stack.env),
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise missing_pulumi() from None
    if not ran.stdout.strip():
        # It ended before there was anything to preview.
        return could_not(reason(ran.stderr)), False
    seen = read(ran.stdout)
    if ran.returncode not in (0, _CHANGES) and not seen.failed:
        # What it prints has no place for some reasons, such as a policy's.
        seen = failing(seen, reason(ran.stderr))
    return seen, ran.returncode == 0 or (ran.returncode == _CHANGES and seen.new)
