"""What a step changes, property by property, with nothing secret in it.

Values are those of `lab.plugins.values`: a `Secret` stays one, whatever is taken out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from lab.plugins.differences import Path, compare, parsed, under, written
from lab.plugins.values import SIGNATURE, UNKNOWN, UNKNOWN_STRING, Secret, Unknown
from review.preview import Step

ABSENT: Final = object()
"""No value, where null would be one."""
MASKED = "[secret]"
"""What the engine puts in place of a secret."""
_PRIVATE: Mapping[str, Sequence[str]] = {
    "command:local:Command": ("stdin", "environment"),
    "command:remote:Command": ("stdin", "environment", "connection"),
    "kubernetes:core/v1:Secret": ("data", "stringData"),
    "pulumi:providers:kubernetes": ("kubeconfig",),
}
"""By type, properties that may carry secrets without being marked as such."""
_LOOKS_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[\w-]+\.eyJ[\w-]+\."  # a JSON Web Token, such as a service account's
    r"|\bclient-key-data:|\bv1:[\w+/=]{16}:[\w+/=]+"  # a kubeconfig; what Pulumi encrypts with a passphrase
    rf"|{SIGNATURE}"
)


@dataclass(frozen=True)
class Change:
    """One property. `old` and `new` are ABSENT where there is none; `replaces`: the resource is made anew for it."""

    path: str
    old: Any
    new: Any
    replaces: bool = False


def changes(step: Step) -> list[Change]:
    """What becomes another value: of a created or deleted resource everything, of any other what differs."""
    kind = step.types[-1]
    old, new = _known(kind, step.old_state.inputs), _known(kind, step.new_state.inputs)
    if step.action == "create":
        return [Change(written(path), ABSENT, value) for path, value in _leaves((), new)]
    if step.action == "delete":
        return [Change(written(path), value, ABSENT) for path, value in _leaves((), old)]
    if not step.detailed_diff:
        reasons = [parsed(reason) for reason in step.replace_reasons]
        return [_change(old, new, path, under(path, reasons)) for path in _differing(old, new, ())]
    found: list[Change] = []
    for text, diff in step.detailed_diff.items():
        root, before = parsed(text), old if diff.input_diff else _known(kind, step.old_state.outputs)
        # Where the engine sees a difference and we do not, a secret is another one.
        paths = _differing(before, new, root) or [root]
        found += [_change(before, new, path, diff.kind.endswith("-replace")) for path in paths]
    return found


def safe(text: str) -> str:
    """A text as it may be shown."""
    return MASKED if _LOOKS_SECRET.search(text) else text


def _differing(old: Any, new: Any, root: Path) -> list[Path]:
    """The leaves that differ below a path."""
    return [(*root, *rest) for rest in compare(_at(old, root), _at(new, root))]


def _change(old: Any, new: Any, path: Path, replaces: bool) -> Change:
    return Change(written(path), _at(old, path), _at(new, path), replaces)


def _known(kind: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties with what is secret, and what is not known yet, marked."""
    private = _PRIVATE.get(kind, ())
    return {
        key: Secret(_document(value)) if key in private and value != UNKNOWN_STRING else _marked(value)
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


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return Secret(None) if SIGNATURE in table else {key: _marked(inner) for key, inner in table.items()}
    if isinstance(value, list):
        return [_marked(inner) for inner in cast("list[Any]", value)]
    if value == UNKNOWN_STRING:
        return UNKNOWN
    return Secret(None) if isinstance(value, str) and safe(value) == MASKED else value


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict | list) and (value or not path):
        inside = value.items() if isinstance(value, dict) else enumerate(cast("list[Any]", value))
        for key, inner in cast("Iterator[tuple[Any, Any]]", inside):
            yield from _leaves((*path, key), inner)
    else:
        yield path, value


def _at(value: Any, path: Path) -> Any:
    """What is at a path: a Secret when the way leads into one, UNKNOWN when it ends at what is not known yet."""
    secret = False
    for part in path:
        if isinstance(value, Secret):
            secret, value = True, value.value
        if isinstance(value, Unknown):
            return value
        try:
            value = cast("Any", value)[part] if isinstance(value, dict | list) else ABSENT
        except (KeyError, IndexError, TypeError):
            value = ABSENT
    if secret:
        return Secret(None if value is ABSENT else value)
    return value
