"""The passphrase of the stacks' secrets: where it comes from, and what to say when it is missing or wrong."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from ops.errors import OpsError
from ops.files import secret_file

TEXT, FILE = "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"


def need(env: Mapping[str, str], stack: str, *, made_by: str) -> None:
    """See that there is a passphrase.

    Raises:
        OpsError: there is none; the message names both variables and the file.
    """
    if TEXT not in env and not Path(env[FILE]).exists():
        raise OpsError(
            f"missing passphrase: the secrets of stack {stack} are encrypted with one; {made_by}. "
            f"Put it into {env[FILE]} (mode 0600), or set {TEXT} or {FILE}"
        )


def make(env: Mapping[str, str], stack: str, *, may_be_new: bool) -> None:
    """The passphrase for a stack that is about to be made: the one that is there, else a new one where nobody else needs it.

    Raises:
        OpsError: there is none, and it has to be one that others know: with a back end of several people, or on a runner
            that is gone tomorrow, nobody could open the stack again.
    """
    if not may_be_new:
        need(env, stack, made_by="with a shared back end nobody makes one up for you")
    elif TEXT not in env and not Path(env[FILE]).exists():
        path = Path(env[FILE])
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret_file(path, secrets.token_urlsafe(32))
        print(f"made a passphrase for the stacks' secrets: {path}", file=sys.stderr)


def refused(env: Mapping[str, str], stack: str, said: str) -> OpsError | None:
    """The error for what Pulumi says of a wrong passphrase; None when it says something else."""
    if "incorrect passphrase" not in said:
        return None
    source = TEXT if TEXT in env else env[FILE]
    return OpsError(
        f"wrong passphrase: what {source} has does not open the secrets of stack {stack}; set {TEXT} or {FILE} to the one it was made with"
    )
