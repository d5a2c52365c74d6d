"""What differs between two bags of properties, as property paths: `spec.ports[0].port`, `metadata.labels["a/b"]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from lab.plugins.values import Secret

Kind = Literal["add", "delete", "update"]
Path = tuple[str | int, ...]
_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")


@dataclass(frozen=True)
class Difference:
    """The outcome of a comparison: each changed path, and those of them that need the resource to be recreated."""

    changes: Mapping[Path, Kind]
    replaces: frozenset[Path] = field(default_factory=lambda: frozenset[Path]())
    delete_before_replace: bool = False


def compare(old: Any, new: Any) -> dict[Path, Kind]:
    """The leaves that were added, deleted or changed. A value that turns secret, or public, is a change."""
    return dict(_compare((), old, new))


def _compare(path: Path, old: Any, new: Any) -> Iterator[tuple[Path, Kind]]:
    if isinstance(old, Secret) and isinstance(new, Secret):
        old, new = old.value, new.value
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast(dict[str, Any], old), cast(dict[str, Any], new)
        for key in sorted(before.keys() | after.keys()):
            yield from _member((*path, key), key in before, before.get(key), key in after, after.get(key))
    elif isinstance(old, list) and isinstance(new, list):
        was, now = cast(list[Any], old), cast(list[Any], new)
        for index in range(max(len(was), len(now))):
            has_old, has_new = index < len(was), index < len(now)
            yield from _member(
                (*path, index), has_old, was[index] if has_old else None, has_new, now[index] if has_new else None
            )
    elif old != new:
        yield path, "update"


def _member(path: Path, in_old: bool, old: Any, in_new: bool, new: Any) -> Iterator[tuple[Path, Kind]]:
    if not in_old:
        yield path, "add"
    elif not in_new:
        yield path, "delete"
    else:
        yield from _compare(path, old, new)


def without(changes: Mapping[Path, Kind], ignored: Iterable[Path]) -> dict[Path, Kind]:
    """The changes that are not inside one of the `ignored` paths."""
    roots = tuple(ignored)
    return {path: kind for path, kind in changes.items() if not any(path[: len(root)] == root for root in roots)}


def under(path: Path, roots: Iterable[Path]) -> bool:
    """Whether `path` is one of `roots`, inside one, or holds one (as when a whole table is added)."""
    return any(path[: len(root)] == root[: len(path)] for root in roots)


def written(path: Path) -> str:
    """The path in Pulumi's notation."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += '["' + part.replace('"', '\\"') + '"]'
    return text


def parsed(text: str) -> Path:
    """The path that `text` names in Pulumi's notation (as in `ignore_changes`)."""
    parts: list[str | int] = []
    for name, quoted, index in re.findall(r'([^.\[\]"]+)(?![^\[]*\])|\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]', text):
        if index:
            parts.append(int(index) if index.isdigit() else index)
        else:
            parts.append(name or quoted.replace('\\"', '"'))
    return tuple(parts)
