"""What is wrong with the settings of a stack, and the error that says all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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


def duplicates(names: Iterable[tuple[str, str]], what: str) -> Iterator[Problem]:
    """A problem for each name, given with its path, that an earlier path has already."""
    seen: dict[str, str] = {}
    for path, name in names:
        if name in seen:
            yield Problem(path, f"{name!r}: {what} is already used at {seen[name]}")
        else:
            seen[name] = path
