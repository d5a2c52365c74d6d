"""Snapshots of stopped instances: before a resize, of which the newest are kept, and by hand, which stay until they are deleted by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from actions.machines.multipass import cli
from actions.protocol import Progress

_BEFORE_RESIZE = re.compile(r"before-resize-\d{8}t\d{6}z")


def before_resize(name: str, wanted: Mapping[str, str], keep: int, progress: Progress) -> None:
    """Take one of a stopped instance, unless there is one of before this very change, and delete the oldest but `keep`.

    Args:
        name: the instance.
        wanted: the settings that are about to change, to their new values.
        keep: how many to keep; with 0 nothing is done.
        progress: is told.

    Raises:
        Failure: it cannot be taken, or an old one cannot be deleted.
    """
    if not keep:
        return
    comment = "before " + " ".join(f"{key}={value}" for key, value in wanted.items())
    found = {snapshot: text for snapshot, text in cli.snapshots(name).items() if _BEFORE_RESIZE.fullmatch(snapshot)}
    # A run that was killed after its snapshot took it of the machine as it is now.
    if not found or found[max(found)] != comment:
        made = take(name, "before-resize", comment)
        progress(f"{name}: snapshot {made}")
        found[made] = comment
    for old in sorted(found)[:-keep]:
        cli.check(cli.run("delete", "--purge", f"{name}.{old}"), f"snapshot {name}.{old} cannot be deleted")
        progress(f"{name}: deleted the old snapshot {old}")


def take(name: str, kind: str, comment: str) -> str:
    """Take a snapshot of a stopped instance; its name, which sorts by time.

    Raises:
        Failure: it cannot be taken.
    """
    snapshot = f"{kind}-{datetime.now(UTC):%Y%m%dt%H%M%Sz}"
    words = ("snapshot", "--name", snapshot, "--comment", comment, name)
    cli.check(cli.run(*words, seconds=cli.SNAPSHOT_SECONDS), f"no snapshot can be taken of {name}")
    return snapshot
