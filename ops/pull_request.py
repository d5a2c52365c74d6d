"""The preview of a stack for the comment on a pull request, judged by the stack's policies."""

from __future__ import annotations

from ops import policies, workspace
from ops.errors import reason
from ops.event_log import EventLog
from review.judge import judge
from review.preview import Preview, could_not, failing, judged, read
from review.rules.levels import Levels

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
