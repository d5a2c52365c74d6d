"""Previewing a stack, with what Pulumi prints kept for the comment."""

from __future__ import annotations

import subprocess

from ops.errors import missing_pulumi, reason
from ops.workspace import ROOT, Stack
from pull_request.preview import Preview, could_not, read

_DRIFT = ("--refresh", "--expect-no-changes")


def preview(stack: Stack, *, drift: bool) -> tuple[Preview, bool]:
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
            cwd=ROOT,
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
    return seen, ran.returncode == 0 or (drift and seen.new and not seen.failed)
