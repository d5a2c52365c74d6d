"""What differs between two values, as property paths: `spec.ports[0].port`, `metadata.labels["a/b"]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from review.values import ABSENT, Secret, Unknown


@dataclass(frozen=True)
class Difference:
    """One property. `old` and `new` are ABSENT where there is none; `replaces`: the resource is recreated for it."""

    path: str
    old: Any
    new: Any
    replaces: bool = False


class Entry(str):
    """An entry of a list, by what names it rather than by its place."""


Path = tuple[str | int, ...]
Entries = Mapping[Any, Any]
Align = Callable[[list[Any], list[Any]], tuple[Entries, Entries] | None]
"""Which entries of two lists belong together, by the same key; None where nothing tells."""
_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_PART = re.compile(r'([^.\[\]"]+)(?![^\[]*\])|\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]')


def by_place(old: list[Any], new: list[Any]) -> tuple[Entries, Entries]:
    """Entries belong together that have the same place."""
    return dict(enumerate(old)), dict(enumerate(new))


def compare(old: Any, new: Any, align: Align = by_place, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """The leaves that differ, each with both values or ABSENT. A value that turns secret, or public, differs."""
    if isinstance(old, Secret) and isinstance(new, Secret):
        for at, was, now in compare(old.value, new.value, align, path):
            yield at, _hidden(was), _hidden(now)
        return
    sides: tuple[Entries, Entries] | None = None
    if isinstance(old, dict) and isinstance(new, dict):
        sides = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
    elif isinstance(old, list) and isinstance(new, list):
        sides = align(cast("list[Any]", old), cast("list[Any]", new))
    if sides:
        before, after = sides
        for key in (*before, *(key for key in after if key not in before)):
            yield from compare(before.get(key, ABSENT), after.get(key, ABSENT), align, (*path, key))
    elif old != new:
        yield path, old, new


def at(value: Any, path: Path) -> Any:
    """What is at a path: in a Secret a Secret, below what is not known yet UNKNOWN, else ABSENT for nothing."""
    for i, part in enumerate(path):
        if isinstance(value, Unknown):
            return value
        if isinstance(value, Secret):
            return _hidden(at(value.value, path[i:]))
        if not isinstance(value, dict | list):
            return ABSENT
        try:
            value = cast("Any", value)[part]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return value


def under(path: Path, roots: Iterable[Path]) -> bool:
    """Whether `path` is one of `roots`, inside one, or holds one (as when a whole table is added)."""
    return any(path[: len(root)] == root[: len(path)] for root in roots)


def written(path: Path) -> str:
    """The path in Pulumi's notation."""
    text = ""
    for part in path:
        if isinstance(part, int | Entry):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += '["' + part.replace('"', '\\"') + '"]'
    return text


def parsed(text: str) -> Path:
    """The path that `text` names in Pulumi's notation."""
    return tuple(
        int(index) if index.isdigit() else index or name or quoted.replace('\\"', '"')
        for name, quoted, index in _PART.findall(text)
    )


def _hidden(value: Any) -> Secret:
    return Secret(None if value is ABSENT else value)
