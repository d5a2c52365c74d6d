"""Taking something on a VM out of service for a while."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from verify.environment import Member

TIMER = "istio-vms-verify"
SECONDS = 300
"""When the VM puts itself right, should this process not live to do it; longer than any check takes."""


@contextmanager
def disturbed(member: Member, do: str, undo: str) -> Iterator[None]:
    """`do` is in effect on the VM within the block, `undo` at its end, however that comes.

    Args:
        member: the VM.
        do: one shell command, or several joined by `&&`, as root.
        undo: shell that may run more than once.
    """
    forget = f"systemctl stop {TIMER}.timer 2>/dev/null || true"
    later = f"systemd-run --quiet --collect --unit={TIMER} --on-active={SECONDS} bash -c {shlex.quote(undo)}"
    try:
        member.vm.run(f"{forget}; {later} && {do}")
        yield
    finally:
        member.vm.run(f"{undo}; {forget}")
