"""How seriously each policy is taken, and with which options: the file that Pulumi calls a policy pack's configuration.

Format (`pkg/resource/analyzer/config.go` in Pulumi's sources): a JSON object from a policy's name, or `all`, to a level, or to an object
with `enforcementLevel` and the policy's options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from actions.protocol import Failure
from review.model import Options, Rule
from review.rules import RULES

FOLDER = Path(__file__).parents[1] / "levels"
"""A file for each stack that has levels of its own."""
DEFAULT = FOLDER / "_default.json"
"""The levels of every other stack; no stack can have this name."""
FORMER = FOLDER.parents[1] / "policy" / "stacks"
LEVELS = ("mandatory", "advisory", "disabled")
ALL = "all"


def file_of(stack: str) -> Path:
    """The file with the levels of a stack.

    Raises:
        Failure: it is where an earlier version had it, where nobody looks any more.
    """
    own = FOLDER / f"{stack}.json"
    former = FORMER / own.name
    if former.exists():
        raise Failure(f"policy levels are in review/levels now: git mv policy/stacks/{own.name} review/levels/")
    return own if own.exists() else DEFAULT


@dataclass(frozen=True)
class Levels:
    """A configuration. What it does not name is mandatory and has its defaults."""

    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of_stack(cls, stack: str) -> Levels:
        """Those of the stack's file in `review/levels`, else the default ones.

        Raises:
            Failure: the file cannot be used.
        """
        return cls.read(file_of(stack))

    @classmethod
    def read(cls, file: Path) -> Levels:
        """Those of a file.

        Raises:
            Failure: it cannot be read, names a policy, a level or an option that does not exist.
        """
        try:
            document = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise Failure(f"{file} cannot be read: {error}") from error
        if not isinstance(document, dict):
            raise Failure(f"{file}: not a JSON object")
        options = {ALL: set[str](), **{rule.name: set(rule.options) for rule in RULES}}
        entries: dict[str, Mapping[str, Any]] = {}
        for name, value in cast("dict[str, Any]", document).items():
            entry = cast("dict[str, Any]", value) if isinstance(value, dict) else {"enforcementLevel": value}
            if name not in options:
                raise Failure(f"{file}: {name} is no policy; there are {', '.join(options)}")
            if unknown := sorted(set(entry) - options[name] - {"enforcementLevel"}):
                raise Failure(f"{file}: {name} has no option {', '.join(unknown)}")
            if entry.get("enforcementLevel", LEVELS[0]) not in LEVELS:
                raise Failure(f"{file}: {name}: a level is {', '.join(LEVELS)}")
            entries[name] = entry
        return cls(entries)

    def level(self, rule: Rule) -> str:
        """The policy's own level, else that of all."""
        given = (self.entries.get(name, {}).get("enforcementLevel") for name in (rule.name, ALL))
        return next(filter(None, given), LEVELS[0])

    def options(self, rule: Rule) -> Options:
        """The policy's options, defaults included."""
        return rule.configured(self.entries.get(rule.name, {}))
