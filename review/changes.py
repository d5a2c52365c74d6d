"""What a step changes, property by property, with nothing secret in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from review.differences import Difference, Path, at, compare, parsed, under, written
from review.preview import Step
from review.values import ABSENT, UNKNOWN_STRING, Secret, marked

_PRIVATE: Mapping[str, Sequence[str]] = {
    "command:local:Command": ("stdin", "environment"),
    "command:remote:Command": ("stdin", "environment", "connection"),
    "kubernetes:core/v1:Secret": ("data", "stringData"),
    "pulumi:providers:kubernetes": ("kubeconfig",),
}
"""By type, properties that may carry secrets without being marked as such."""


def changes(step: Step) -> list[Difference]:
    """What becomes another value: of a created or deleted resource everything, of any other what differs."""
    old, new = _known(step.type, step.old_state.inputs), _known(step.type, step.new_state.inputs)
    if step.action == "create":
        return [Difference(written(path), ABSENT, value) for path, value in _leaves((), new)]
    if step.action == "delete":
        return [Difference(written(path), value, ABSENT) for path, value in _leaves((), old)]
    if not step.detailed_diff:
        reasons = [parsed(reason) for reason in step.replace_reasons]
        return [Difference(written(path), was, now, under(path, reasons)) for path, was, now in compare(old, new)]
    found: list[Difference] = []
    for text, diff in step.detailed_diff.items():
        root, before = parsed(text), old if diff.input_diff else _known(step.type, step.old_state.outputs)
        was, now = at(before, root), at(new, root)
        # Where the engine sees a difference and we do not, a secret is another one.
        differing = list(compare(was, now, path=root)) or [(root, was, now)]
        replaces = diff.kind.endswith("-replace")
        found += [Difference(written(path), was, now, replaces) for path, was, now in differing]
    return found


def _known(kind: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties with what is secret, and what is not known yet, marked."""
    private = _PRIVATE.get(kind, ())
    return {
        key: Secret(_document(value)) if key in private and value != UNKNOWN_STRING else marked(value, key)
        for key, value in properties.items()
    }


def _document(value: Any) -> Any:
    """What is in a JSON text, so that its keys can be told; None for what the engine has masked or what is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return None


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict | list) and (value or not path):
        inside = value.items() if isinstance(value, dict) else enumerate(cast("list[Any]", value))
        for key, inner in cast("Iterator[tuple[Any, Any]]", inside):
            yield from _leaves((*path, key), inner)
    else:
        yield path, value
