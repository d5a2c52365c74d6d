"""Every setting with its default, and with what docs/settings.md says of it: that is where settings are explained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from components.settings import Settings

_ROW = re.compile(r"^\| (`[^|]*`) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
_TITLE = re.compile(r"^## istio-vms:(\w+) — (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Explained:
    """One setting of a table. `default` is what applies without it, as text; `value` the same as a value, None where there is none."""

    name: str
    meaning: str
    default: str
    value: Any


@dataclass(frozen=True)
class Section:
    """A table of the stack file; `is_list`: a list of such tables."""

    name: str
    title: str
    is_list: bool
    settings: tuple[Explained, ...]


def sections(root: Path) -> list[Section]:
    """All tables in the order of the stack file.

    Raises:
        KeyError: a setting is not in docs/settings.md; a test sees to it that each is.
    """
    text = (root / "docs/settings.md").read_text()
    titles = {match[1]: plain(match[2]) for match in _TITLE.finditer(text)}
    found: list[Section] = []
    for name, hint in get_type_hints(Settings).items():
        if name in titles:
            is_list = not isinstance(hint, type)
            model: type[BaseModel] = get_args(hint)[0] if is_list else hint
            rows = _rows(text, name)
            found.append(Section(name, titles[name], is_list, tuple(_explained(model, rows))))
    return found


def _rows(text: str, section: str) -> dict[str, tuple[str, str]]:
    """Default and meaning by the names of settings; a row may have several names."""
    part = re.split(rf"^## istio-vms:{section} ", text, flags=re.MULTILINE)[1].split("\n## ")[0]
    return {
        name: (plain(default), plain(meaning))
        for names, default, meaning in _ROW.findall(part)
        for name in re.findall(r"`(\w+)`", names)
    }


def _explained(model: type[BaseModel], rows: dict[str, tuple[str, str]]) -> Iterator[Explained]:
    for name, field in model.model_fields.items():
        alias = field.alias or name
        default, meaning = rows[alias]
        yield Explained(
            alias,
            meaning,
            default,
            None if field.is_required() else _as_document(field.get_default(call_default_factory=True)),
        )


def _as_document(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, tuple):
        return [_as_document(item) for item in value]
    return value


def plain(markdown: str) -> str:
    """The text without emphasis and links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("**", "")
