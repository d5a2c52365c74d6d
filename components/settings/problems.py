"""What is wrong with the settings of a stack, and the error that says all of it at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pulumi

PROJECT = "istio-vms"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the settings: where, and what would be right."""

    path: str
    message: str

    def __str__(self) -> str:
        """One line: path, value, what would be right."""
        return f"{self.path}: {self.message}"


class SettingsError(pulumi.RunError):
    """All that is wrong with the settings of a stack. As a `RunError` Pulumi shows it without a stack trace."""

    def __init__(self, problems: list[Problem]) -> None:
        """`problems` has every error found, in the order of the stack file."""
        self.problems = problems
        listing = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} error(s) in the settings of this stack:\n{listing}")


def without_values(problem: Problem, values: Iterable[Any]) -> Problem:
    """The problem without any of these values and what is in them, which must not be shown."""
    message = problem.message
    for text in sorted({text for value in values for text in _texts(value)}, key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "[secret]", message)
    return Problem(problem.path, message)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in cast("dict[str, Any]", value).values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _texts(inner)
    elif not isinstance(value, bool) and value not in (None, ""):
        yield str(value)


def duplicates(names: Iterable[tuple[str, str]], what: str) -> Iterator[Problem]:
    """A problem for each name, given with its path, that an earlier path has already."""
    seen: dict[str, str] = {}
    for path, name in names:
        if name in seen:
            yield Problem(path, f"{name!r}: {what} is already used at {seen[name]}")
        else:
            seen[name] = path
