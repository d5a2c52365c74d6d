"""What differs between the settings of two stacks, defaults applied."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.settings import SettingsError, parse
from ops import workspace
from ops.errors import OpsError
from ops.stack_file import StackFileError
from review.changes import MASKED, safe

ABSENT: Final = object()
"""No such entry, where null would be one."""
_NAMED_BY = (
    ("name",),
    ("namespace", "name"),
    ("namespace", "service"),
    ("host",),
    ("host", "port"),
    ("target",),
    ("namespace",),
)
"""What tells the entries of a list apart, the first that does on both sides."""
_SECRET = re.compile(r"(?i)(password|passwd|passphrase|secret|token|credentials?|private-?_?key)$")
CELL = 56
"""Characters of a value in the table; all of it is in the JSON."""


@dataclass(frozen=True)
class Difference:
    """One setting; ABSENT where there is none."""

    path: str
    a: Any
    b: Any


def compare(a: str, b: str) -> list[Difference]:
    """What differs between two stacks, in the order of the stack file.

    Raises:
        OpsError: one is not named or not known, or its settings are not valid.
    """
    for variable, name in (("A", a), ("B", b)):
        if name not in workspace.stack_files():
            known = ", ".join(workspace.stack_files())
            raise OpsError(f"{variable}={name}: there is no such stack; make diff-stacks A=… B=…, of {known}")
    return list(_differences("", _applied(a), _applied(b)))


def _applied(stack: str) -> dict[str, Any]:
    """The settings as they are applied, with what Pulumi has encrypted masked."""
    file = workspace.read_stack_file(stack)
    if file.problems:
        raise StackFileError(stack, file.problems)
    raw = {key: json.dumps(_masked(value)) for key, value in file.tables.items()}
    try:
        return parse(stack, raw, secret=set(raw)).as_documents()
    except SettingsError as error:
        raise OpsError(f"stack {stack}: {error}") from None


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return MASKED if set(value) == {"secure"} else {key: _masked(inner) for key, inner in value.items()}
    return [_masked(inner) for inner in value] if isinstance(value, list) else value


def _differences(path: str, a: Any, b: Any) -> Iterator[Difference]:
    if isinstance(a, list) and isinstance(b, list) and (keys := _telling_apart(a, b)):
        a, b = _by_name(a, keys), _by_name(b, keys)
        for name in [*a, *(name for name in b if name not in a)]:
            yield from _differences(f"{path}[{name}]", a.get(name, ABSENT), b.get(name, ABSENT))
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from _differences(f"{path}.{key}" if path else key, a.get(key, ABSENT), b.get(key, ABSENT))
    elif a != b:
        yield Difference(path, *(_shown(path, value) for value in (a, b)))


def _telling_apart(a: list[Any], b: list[Any]) -> Sequence[str]:
    """The keys that name each entry of both lists; none for lists of plain values."""
    if not all(isinstance(entry, dict) for entry in (*a, *b)):
        return ()
    return next((keys for keys in _NAMED_BY if all(_names(entries, keys) for entries in (a, b))), ())


def _names(entries: list[dict[str, Any]], keys: Sequence[str]) -> bool:
    if not all(key in entry for entry in entries for key in keys):
        return False
    return len(_by_name(entries, keys)) == len(entries)


def _by_name(entries: list[dict[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    return {"/".join(str(entry[key]) for key in keys): entry for entry in entries}


def _shown(path: str, value: Any) -> Any:
    """The value with everything in it masked that is secret or looks like it."""
    if isinstance(value, dict):
        return {key: _shown(f"{path}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(path, inner) for inner in value]
    return MASKED if isinstance(value, str) and (_SECRET.search(path) or safe(value) == MASKED) else value


def as_json(found: Sequence[Difference], a: str, b: str) -> str:
    """For machines: one object a difference; where a stack has no such entry, its key is left out."""
    rows = [
        {"path": one.path, **{name: value for name, value in ((a, one.a), (b, one.b)) if value is not ABSENT}}
        for one in found
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def show(found: Sequence[Difference], a: str, b: str, console: Console) -> None:
    """For people: a table, or a line that there is nothing."""
    if not found:
        console.print(f"stacks {a} and {b} have the same settings", highlight=False)
        return
    table = Table("setting", a, b, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for one in found:
        table.add_row(*(Text(cell, overflow="fold") for cell in (one.path, _cell(one.a), _cell(one.b))))
    # Where no terminal says how wide it is, as wide as it needs to be.
    wide = console if console.is_terminal else Console(file=console.file, width=10 * CELL)
    wide.print(table)


def _cell(value: Any) -> str:
    if value is ABSENT:
        return "-"
    text = value if isinstance(value, str) else json.dumps(_without_none(value), ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= CELL else f"{line[: CELL - 1]}…"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
