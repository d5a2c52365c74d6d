"""What policies look at, and what a policy is. No policy knows who runs it: the engine, or the reader of a preview's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from review.model import Change, Resource
from review.values import MASKED as SECRET
from review.values import UNKNOWN_STRING as UNKNOWN

Path = tuple[str, ...]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Violation:
    """What is wrong and what to do about it. Without a URN it is the stack as a whole."""

    message: str
    urn: str = ""


ResourceCheck = Callable[[Resource, Options], Iterable[str]]
StackCheck = Callable[[Sequence[Resource], Options], Iterable[Violation]]
ChangesCheck = Callable[[Sequence[Change], Options], Iterable[Violation]]


@dataclass(frozen=True)
class Rule:
    """One policy.

    Attributes:
        name: what configuration and violations call it.
        description: what holds where it is kept.
        resource: the messages about one resource.
        stack: the violations of a stack's resources taken together, as they are to be afterwards.
        changes: the violations in what an update would do. The engine shows changes to no policy, so this needs a preview's JSON.
        options: JSON schemas by name, each with its `default`.
    """

    name: str
    description: str
    resource: ResourceCheck | None = None
    stack: StackCheck | None = None
    changes: ChangesCheck | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def configured(self, given: Options) -> Options:
        """The options with the defaults of those that are not given."""
        return {name: given.get(name, schema["default"]) for name, schema in self.options.items()}


Found = list[tuple[str, Rule, Violation]]
"""Violations, each with its policy and that one's level."""


def known(value: object) -> bool:
    """Whether it is a value, and not the sign that one is unknown or secret."""
    return value not in (UNKNOWN, SECRET)


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: what is unknown or not there has no entries."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value if it is a list, else an empty one."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else []


def mappings(value: object, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every mapping with entries in the value and below, with the keys that lead there. A text that is JSON is looked into as well."""
    opened = _opened(value)
    if entries := mapping(opened):
        yield path, entries
    for key, part in _parts(opened):
        yield from mappings(part, (*path, key))


def texts(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every known text in the value and below, with the keys that lead there.

    A text that is JSON is looked into like the rest; `{name: A, value: B}`, an environment in Kubernetes, counts as `{A: B}`.
    """
    opened = _opened(value)
    if isinstance(opened, str) and known(opened):
        yield path, opened
    pair = mapping(opened)
    if isinstance(pair.get("name"), str) and isinstance(pair.get("value"), str):
        opened = {pair["name"]: pair["value"]}
    for key, part in _parts(opened):
        yield from texts(part, (*path, key))


def _opened(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _parts(value: object) -> Iterable[tuple[str, Any]]:
    return mapping(value).items() or ((str(i), part) for i, part in enumerate(sequence(value)))
