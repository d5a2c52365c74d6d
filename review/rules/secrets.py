"""No secret in plain text: not in a command, an environment, Helm values or a Kubernetes object."""

from __future__ import annotations

import re
from collections.abc import Iterable

from review.model import Options, Resource
from review.values import Keys, form, names_secret, texts

_ASSIGNED = re.compile(
    r"(?:--(?P<option>[\w-]+)[= ]|(?P<variable>[A-Za-z_]\w*)=)(?P<value>\"[^\"]*\"|'[^']*'|[^\s;|&<>'\"]+)"
)
"""`--name value`, `--name=value` and `NAME=value` in a command or script."""
_HARMLESS = re.compile(r"|true|false|yes|no|null|none|\d{1,5}[a-z]?|[~.]?/[\w./-]+", re.IGNORECASE)
"""Values that are no secret under any name: nothing, a switch, a number or a time, a path."""


def plaintext_secrets(resource: Resource, _: Options) -> Iterable[str]:
    """What is secret by its form or by its name and can be read all the same. Messages never repeat it."""
    for path, text in texts(resource.inputs):
        what = _unmarked(resource, path) or form(text) or _named(path[-1], text) or _assigned(text)
        if what and (resource.secrets_hidden or not _made_for_secrets(resource, path)):
            yield f"{'.'.join(path)} has {what} in plain text: make it a secret (pulumi.Output.secret), and give it to commands on stdin"


def _made_for_secrets(resource: Resource, path: Keys) -> bool:
    """Where secrets belong. Whether they are marked as secrets there is seen only where marks are."""
    if resource.type.startswith("pulumi:providers:"):
        return True
    if resource.type.startswith("command:"):
        return path[0] in ("stdin", "connection")
    return _in_secret(resource, path)


def _in_secret(resource: Resource, path: Keys) -> bool:
    return resource.kind == "Secret" and path[0] in ("data", "stringData")


def _unmarked(resource: Resource, path: Keys) -> str | None:
    return "a value of a Secret" if _in_secret(resource, path) else None


def _named(name: str, text: str) -> str | None:
    return f"the value of {name}" if names_secret(name) and _is_literal(text) else None


def _assigned(text: str) -> str | None:
    for found in _ASSIGNED.finditer(text):
        name = found["option"] or found["variable"]
        if names_secret(name) and _is_literal(found["value"].strip("\"'")):
            return f"the value of {name}"
    return None


def _is_literal(text: str) -> bool:
    """Whether it is the value itself and not a reference to one, as `$NAME` and `$(command)` are."""
    return "$" not in text and not _HARMLESS.fullmatch(text)
