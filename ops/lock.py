"""Who may change a stack: one command at a time.

On this machine by a lock in the stack's own folder, which the kernel takes back when its process ends, however that ends. Pulumi's own lock
comes later, stays when its process is killed, and is the only one that other machines see.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ops.errors import OpsError
from ops.files import secret_folder

_SECONDS = 1
"""How long the one who has the lock may take to write down who it is."""
LOCKED = re.compile(r"the stack is currently locked by|Another update is currently in progress")
"""What Pulumi says: `checkForLock` in `pkg/backend/diy/lock.go` of its sources, and its service."""
_BY = re.compile(r"created by (\S+)@(\S+) \(pid (\d+)\) at (\S+)")


@contextmanager
def alone(folder: Path, stack: str, command: str) -> Generator[None]:
    """Keep every other command that changes the stack away for as long as the block runs.

    Args:
        folder: the stack's own folder.
        stack: its name.
        command: what `make` was asked for.

    Raises:
        OpsError: another one is at work; the message says which, since when, and what to do.
    """
    path = folder / "lock"
    descriptor = _take(path, wait=False)
    if descriptor is None:
        raise OpsError(f"stack {stack} is being worked on by {_holder(path)}. {_advice(stack)}")
    try:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "command": command, "since": since}).encode())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def in_turn(path: Path) -> Generator[None]:
    """Wait until nobody else is in a block with the same path, and keep others waiting."""
    descriptor = _take(path, wait=True)
    assert descriptor is not None
    try:
        yield
    finally:
        os.close(descriptor)


def _take(path: Path, *, wait: bool) -> int | None:
    """The file, locked; None when somebody else has it."""
    while True:
        secret_folder(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue  # `down` has just removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # `down` removed it as we got it: it locks nothing any more
        os.close(descriptor)


def _holder(path: Path) -> str:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        try:
            holder = json.loads(path.read_text())
            return f"process {holder['pid']} (make {holder['command']}) since {holder['since']}"
        except (OSError, ValueError):
            time.sleep(0.02)
    return "another process"


def _advice(stack: str) -> str:
    return f"Wait for its end, or end it with Ctrl-C where it runs; `make status STACK={stack}` shows how things are"


def held(stack: str, said: str) -> OpsError | None:
    """The error for what Pulumi says of a lock; None when it says something else."""
    if not LOCKED.search(said):
        return None
    who = " and ".join(
        f"process {pid} of {user} on {host} since {since}" for user, host, pid, since in _BY.findall(said)
    )
    return OpsError(f"stack {stack} is being worked on by {who or 'somebody else'}. {if_dead(stack)}")


def if_dead(stack: str) -> str:
    """What to do about a lock whose process we cannot see."""
    return (
        "Wait for its end. Only when you know that it is dead, with the environment of `make env`: "
        f"pulumi cancel --stack {stack}"
    )
