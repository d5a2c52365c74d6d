"""What goes wrong, for people."""

from __future__ import annotations

from collections.abc import Collection

REASON_CHARACTERS = 300


class OpsError(Exception):
    """Something a person has to act on. The message says what happened and what to do next."""

    code = 1
    """The exit code of the command line."""


class Interrupted(OpsError):
    """A person asked for the end."""

    code = 130


class OperationFailed(OpsError):
    """Pulumi's engine ran and failed."""

    def __init__(self, message: str, failed: Collection[str]) -> None:
        """`failed` are the names of the resources that did, in the program."""
        super().__init__(message)
        self.failed = failed


class ActionFailed(OpsError):
    """One of our actions failed."""

    def __init__(self, said: str) -> None:
        """The message is the end of what it said as one line; `lines` has that end as it was said."""
        super().__init__(reason(said))
        self.lines = _end(said)


def missing_pulumi() -> OpsError:
    """The error for a machine without Pulumi."""
    return OpsError("pulumi is not on this machine yet; `make tools` gets it and what else is needed")


def reason(text: str) -> str:
    """The end of what a program said as one line.

    It begins at the last line that is not indented: there both our own command lines and a Python traceback say what is wrong.
    """
    return one_line(" ".join(_end(text)))


def reasons(text: str) -> str:
    """As `reason`, in the lines it was said in: where they are several things to put right."""
    first, *rest = map(one_line, _end(text))
    return "\n    ".join([first, *rest])


def _end(text: str) -> list[str]:
    lines = text.rstrip().splitlines() or ["no reason given"]
    begin = max((i for i, line in enumerate(lines) if line[:1].strip()), default=0)
    return [lines[begin].removeprefix("error: "), *lines[begin + 1 :]]


def one_line(text: str) -> str:
    """A message as one line that is not too long."""
    joined = " ".join(text.split())
    return joined if len(joined) <= REASON_CHARACTERS else f"{joined[: REASON_CHARACTERS - 1]}…"
