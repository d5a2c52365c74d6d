"""What differs between the settings of two stacks, defaults applied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.settings import SettingsError, parse
from ops import workspace
from ops.errors import OpsError
from ops.stack_file import StackFileError
from review import differences
from review.differences import Difference, Entries, Entry, Path, written
from review.values import ABSENT, MASKED, Secret, marked

_NAMED_BY = "name", "namespace name", "namespace service", "host", "host port", "target", "namespace"
"""The keys that tell the entries of a list apart, the first that do on both sides."""
CELL = 56
"""Characters of a value in the table; all of it is in the JSON."""


def compare(a: str, b: str) -> list[Difference]:
    """What differs between two stacks, in the order of the stack file.

    Raises:
        OpsError: one is not named or not known, or its settings are not valid.
    """
    for variable, name in (("A", a), ("B", b)):
        if name not in workspace.stack_files():
            known = ", ".join(workspace.stack_files())
            raise OpsError(f"{variable}={name}: there is no such stack; make diff-stacks A=… B=…, of {known}")
    found = differences.compare(_applied(a), _applied(b), _by_name)
    return [Difference(written(path), *(marked(one, _key(path)) for one in values)) for path, *values in found]


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


def _by_name(a: list[Any], b: list[Any]) -> tuple[Entries, Entries] | None:
    """The entries of two lists by what tells them apart; None for lists of plain values."""
    if not all(isinstance(entry, dict) for entry in (*a, *b)):
        return None
    pairs = ((_named(a, keys.split()), _named(b, keys.split())) for keys in _NAMED_BY)
    return next(((one, other) for one, other in pairs if len(one) == len(a) and len(other) == len(b)), None)


def _named(entries: list[dict[str, Any]], keys: Sequence[str]) -> Entries:
    """The entries that have all these keys, by their values."""
    return {Entry("/".join(str(one[key]) for key in keys)): one for one in entries if all(key in one for key in keys)}


def _key(path: Path) -> str:
    """The key of the setting at a path, or of the list that has it."""
    return next((part for part in reversed(path) if isinstance(part, str) and not isinstance(part, Entry)), "")


def as_json(found: Sequence[Difference], a: str, b: str) -> str:
    """For machines: one object a difference; where a stack has no such entry, its key is left out."""
    rows = [
        {"path": one.path, **{name: value for name, value in ((a, one.old), (b, one.new)) if value is not ABSENT}}
        for one in found
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False, default=repr)


def show(found: Sequence[Difference], a: str, b: str, console: Console) -> None:
    """For people: a table, or a line that there is nothing."""
    if not found:
        console.print(f"stacks {a} and {b} have the same settings", highlight=False)
        return
    table = Table("setting", a, b, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for one in found:
        table.add_row(*(Text(cell, overflow="fold") for cell in (one.path, _cell(one.old), _cell(one.new))))
    # Where no terminal says how wide it is, as wide as it needs to be.
    wide = console if console.is_terminal else Console(file=console.file, width=10 * CELL)
    wide.print(table)


def _cell(value: Any) -> str:
    if value is ABSENT:
        return "-"
    shown = isinstance(value, str | Secret)
    text = str(value) if shown else json.dumps(_without_none(value), ensure_ascii=False, default=repr)
    line = " ".join(text.split())
    return line if len(line) <= CELL else f"{line[: CELL - 1]}…"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
