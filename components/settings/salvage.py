"""What is left of a table with wrong values, so that these hide nothing that is wrong elsewhere.

Every wrong value is taken out: a list loses the entry that it is in, a table the setting that it is in, for which something valid stands in
where one is needed. What checks say of these, or of anything that could be about them, is not told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from components.settings.problems import PROJECT, Problem

_FILE = {"url": "https://stand.in", "sha256": "0" * 64}
_NEEDED: Mapping[str, Mapping[str, Any]] = {
    "machines": {},
    "cluster": {"version": "v1.32.0+k3s1", "binary": _FILE},
    "mesh": {
        "version": "1.30.0",
        "revision": "stand-in",
        "charts": {"repository": "https://stand.in"},
        "sidecarPackage": _FILE,
    },
}
_DECISIVE: Mapping[str, Sequence[str]] = {
    "machines": ("driver", "networks"),
    "cluster": ("existing", "network", "servers", "agents"),
    "mesh": ("network", "namespaces", "exposedServices"),
}
"""What so much depends on that nothing can stand in for it."""


@dataclass
class Left:
    """What is left of all tables. `lists` has, by table, the numbers that the entries which are left have in the stack file."""

    tables: dict[str, Any] = field(default_factory=dict[str, Any])
    lists: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    without: list[str] = field(default_factory=list[str])
    """The paths of settings that were taken out of tables."""

    def take(self, key: str, kind: TypeAdapter[Any], text: str, error: ValidationError) -> None:
        """What is left of one table, from its JSON; nothing when too much depends on what is wrong."""
        value, wrong = json.loads(text), {item["loc"] for item in error.errors()}
        if isinstance(value, list):
            entries, bad = cast("list[Any]", value), {loc[0] for loc in wrong if loc}
            self.lists[key] = [i for i in range(len(entries)) if i not in bad]
            left = json.dumps([entries[i] for i in self.lists[key]])
        elif isinstance(value, dict) and key in _NEEDED:
            table = cast("dict[str, Any]", value)
            names = {next((str(part) for part in loc if not str(part).startswith("<")), "") for loc in wrong}
            if names & {"", *_DECISIVE[key]} or "existing" in table:
                return
            self.without += [f"{PROJECT}:{key}.{name}" for name in names]
            left = json.dumps({**_NEEDED[key], **{name: inner for name, inner in table.items() if name not in names}})
        else:
            return
        try:
            self.tables[key] = kind.validate_json(left, strict=True)
        except ValidationError:
            self.lists.pop(key, None)

    def told(self, problems: Iterator[Problem]) -> Iterator[Problem]:
        """What of the checks' problems is about what was not taken out, with the numbers of the stack file."""
        for problem in problems:
            if not any(re.match(rf"{re.escape(path)}(?![A-Za-z0-9])", problem.path) for path in self.without):
                yield Problem(self._numbered(problem.path), self._numbered(problem.message))

    def _numbered(self, text: str) -> str:
        for key, numbers in self.lists.items():
            pattern = rf"{PROJECT}:{key}\[(\d+)\]"
            text = re.sub(pattern, lambda m, k=key, n=numbers: f"{PROJECT}:{k}[{n[int(m[1])]}]", text)
        return text
