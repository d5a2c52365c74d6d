"""Every setting as its model describes it: its name, its default and what it means, the latter two in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.settings.stack import Settings
from components.settings.tables import Table, WhenUnset

_STEPS: dict[Any, str] = {tuple: "[]", dict: ".<key>"}
"""What is between a setting's name and those of its parts, where it has several of them."""


@dataclass(frozen=True)
class Described:
    """One setting of a table; `parts` are the settings within it, and `step` is what leads to them: `[]` for a list.

    `default` is what applies without it, as text; `value` the same as a value, None where there is none.
    """

    name: str
    default: str
    meaning: str
    value: Any
    step: str
    parts: tuple[Described, ...]

    def rows(self, prefix: str = "") -> Iterator[tuple[str, Described]]:
        """The setting and all within it, with their paths in the table."""
        path = f"{prefix}{self.name}"
        yield path, self
        for part in self.parts:
            yield from part.rows(f"{path}{self.step}.")


@dataclass(frozen=True)
class Section:
    """A top-level table of the stack file, of one kind or of several; `is_list`: a list of such tables."""

    name: str
    is_list: bool
    kinds: tuple[type[Table], ...]

    @property
    def needed(self) -> bool:
        """Whether a stack file has to have it."""
        return not self.is_list and any(
            field.is_required() for kind in self.kinds for field in kind.model_fields.values()
        )

    def title(self, kind: type[Table]) -> str:
        """What such a table is, in one sentence."""
        sentence = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        return f"A list; each entry is {sentence[0].lower()}{sentence[1:]}" if self.is_list else sentence


def sections() -> list[Section]:
    """All top-level tables in the order of the stack file."""
    found: list[Section] = []
    for name, hint in get_type_hints(Settings).items():
        if kinds := tuple(model for _, model in _models(hint)):
            found.append(Section(name, get_origin(hint) is tuple, kinds))
    return found


def described(model: type[Table], seen: frozenset[type[Table]] = frozenset()) -> tuple[Described, ...]:
    """The settings of a table, those that are needed first.

    Args:
        model: the table.
        seen: tables whose settings the reader knows already.
    """
    settings: list[Described] = []
    known = seen | {model}
    for name, field in sorted(model.model_fields.items(), key=lambda item: not item[1].is_required()):
        step, within = next(_models(field.annotation), ("", None))
        parts: tuple[Described, ...] = ()
        if within and within not in known:
            parts = described(within, known)
            known |= {within}
        default = field.get_default(call_default_factory=True)
        settings.append(
            Described(
                field.alias or name,
                _default(field),
                field.description or "",
                None if field.is_required() else _document(default),
                step,
                parts,
            )
        )
    return tuple(settings)


def _document(value: Any, *, as_given: bool = False) -> Any:
    """A setting's value as a stack file has it; `as_given`: without what is a default of its own."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=as_given)
    if isinstance(value, tuple):
        return [_document(item, as_given=as_given) for item in cast(tuple[Any, ...], value)]
    return value


def _models(annotation: Any) -> Iterator[tuple[str, type[Table]]]:
    """The tables that values of this type are or have, with what leads to them."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield "", annotation
    step = _STEPS.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        for further, model in _models(argument):
            yield step + further, model


def _default(field: FieldInfo) -> str:
    words = next((mark.words for mark in field.metadata if isinstance(mark, WhenUnset)), None)
    if words is not None:
        return words
    if field.is_required():
        return "**needed**"
    value = _document(field.get_default(call_default_factory=True), as_given=True)
    return "none" if value in (None, "") else f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    """A value as YAML on one line, in the form that people write."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in cast(dict[str, Any], value).items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, cast(list[Any], value))) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
