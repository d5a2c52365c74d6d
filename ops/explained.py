"""Every setting with its default and its meaning in plain text, as the comments of a stack file explain it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.settings import descriptions

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class Explained:
    """One setting of a table, with those within it, by their paths.

    `default` is what applies without it, as text; `value` the same as a value, None where there is none.
    """

    name: str
    meaning: str
    default: str
    value: Any
    parts: tuple[Explained, ...] = ()


@dataclass(frozen=True)
class Kind:
    """One form of a table, where there are several."""

    title: str
    settings: tuple[Explained, ...]


@dataclass(frozen=True)
class Section:
    """A table of the stack file; `is_list`: a list of such tables."""

    name: str
    is_list: bool
    kinds: tuple[Kind, ...]


def sections() -> list[Section]:
    """All tables in the order of the stack file."""
    return [Section(section.name, section.is_list, tuple(_kinds(section))) for section in descriptions.sections()]


def _kinds(section: descriptions.Section) -> Iterator[Kind]:
    for model in section.kinds:
        settings = (list(one.rows()) for one in descriptions.described(model))
        yield Kind(
            plain(section.title(model)),
            tuple(_explained(*whole, tuple(_explained(*part) for part in parts)) for whole, *parts in settings),
        )


def _explained(path: str, setting: descriptions.Described, parts: tuple[Explained, ...] = ()) -> Explained:
    return Explained(path, plain(setting.meaning), plain(setting.default), setting.value, parts)


def plain(markdown: str) -> str:
    """The text without emphasis and links."""
    return _LINK.sub(r"\1", markdown).replace("**", "")
