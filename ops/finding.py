"""What is not as it should be, and what will help: `status` lists such findings, and `up` ends with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

_INDENT = (0, 0, 0, 2)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        id: its kind, for programs: it does not change between versions.
        subject: what it is about, such as `VM lab-vm-1`.
        problem: what is wrong; after the subject it makes a sentence.
        what_to_do: what will help.
    """

    id: str
    subject: str
    problem: str
    what_to_do: str

    def __str__(self) -> str:
        """The sentence."""
        return f"{self.subject} {self.problem}"


def count(findings: Sequence[Finding]) -> str:
    """How many there are, in words."""
    return f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"


def show(findings: Sequence[Finding], console: Console) -> None:
    """A line for each, and below it what to do."""
    for finding in findings:
        text = f"[red]{escape(str(finding))}[/]\n  → {escape(finding.what_to_do)}"
        console.print(Padding(text, _INDENT, expand=False), highlight=False, soft_wrap=False)
