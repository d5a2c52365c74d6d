"""Markdown as GitHub and GitLab read it, with text in it that others wrote.

Such text stands in code spans and fenced blocks only: nothing in there is a link, a mention, HTML or a table's border.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAXIMUM_CHARACTERS = 500
"""Of one span or one line of a block."""


def plain(text: str) -> str:
    """One line without anything that does not show, or that turns the direction of what follows."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= MAXIMUM_CHARACTERS else f"{shown[: MAXIMUM_CHARACTERS - 1]}…"


def code(text: str) -> str:
    """A code span, for a table's cell as well: its fence is longer than any in the text, and a bar ends no cell."""
    shown = plain(text).replace("|", "\\|")
    fence = "`" * (_longest_run(shown) + 1)
    pad = " " if shown[:1] in ("", "`", " ") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def block(lines: Iterable[str], language: str = "") -> list[str]:
    """A fenced block."""
    shown = [plain(line) for line in lines]
    fence = "`" * max(3, *(_longest_run(line) + 1 for line in shown), 3)
    return [f"{fence}{language}", *shown, fence]


def folded(summary: str, lines: Iterable[str]) -> list[str]:
    """What opens at a click. The empty lines make what is inside Markdown again."""
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>", ""]


def row(cells: Iterable[str]) -> str:
    """A table's row; the cells are Markdown."""
    return f"| {' | '.join(cells)} |"


def fitting(lines: Sequence[str], budget: int) -> Sequence[str]:
    """As many of the lines, from the first on, as stay within so many bytes."""
    for count, line in enumerate(lines):
        budget -= size([line])
        if budget < 0:
            return lines[:count]
    return lines


def size(lines: Iterable[str]) -> int:
    """Bytes with the lines' ends: never fewer than the characters that a limit counts, whatever it takes for one."""
    return sum(len(line.encode()) + 1 for line in lines)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
