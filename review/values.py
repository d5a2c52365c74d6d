"""Values of properties as a preview prints them: plain data in which secrets and unknowns are marked.

What is secret is known by its form or by its name. Judging and showing err to opposite sides: a policy names what
surely is a secret, and whatever may be one is masked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
"""The key by which Pulumi marks a table as a secret or the like: `sdk/go/common/resource/sig.go` in its sources."""
UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What Pulumi writes in place of a value that is known after `up` only."""
MASKED: Final = "[secret]"
"""What Pulumi shows of a secret, and so do we."""
ABSENT: Final = object()
"""No value, where null would be one."""
Keys = tuple[str, ...]

_FORMS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "the client key of a kubeconfig": r"client-key-data[\"']?\s*:\s*[\"']?[A-Za-z0-9+/=]{16}",
    "a k3s token": r"\bK10[0-9a-f]{64}::",
    "a JSON Web Token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "a GitHub token": r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{40})",
    "a GitLab token": r"\bglpat-[\w-]{20}",
    "an AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@$]+:[^\s/@$]+@",
}
"""What a secret looks like, whatever it is called."""
_HIDES = re.compile(
    r"\bclient-key-data:|\beyJ[\w-]+\.eyJ[\w-]+\."  # a kubeconfig and a JSON Web Token, cut short or not
    rf"|\bv1:[\w+/=]{{16}}:[\w+/=]+|{SIGNATURE}"  # what Pulumi encrypts with a passphrase, its mark of a secret
)
"""What is masked besides."""
_WORDS = {"password", "passwd", "passphrase", "token", "apikey", "credentials"}
_WORD_PAIRS = {"api key", "private key", "secret key", "access key", "client secret", "shared secret"}
_MAY_NAME_SECRET = re.compile(r"(?i)(passw(or)?d|passphrase|secret|token|credentials?|(api|private|access)[-_]?key)$")


@dataclass(frozen=True)
class Unknown:
    """A value that is known after `up` only."""


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, repr=False)
class Secret:
    """A value that nobody gets to see; compared all the same where it is known."""

    value: Any = None

    def __repr__(self) -> str:
        return MASKED


def known(value: object) -> bool:
    """Whether it is a value, and not the sign that one is unknown or secret."""
    return value not in (UNKNOWN_STRING, MASKED)


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: what is unknown or not there has no entries."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value if it is a list, else an empty one."""
    return cast("Sequence[Any]", value) if isinstance(value, list) else []


def mappings(value: object, path: Keys = ()) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    """Every mapping with entries in the value, its parts and texts that are JSON, with the keys that lead there."""
    opened = _opened(value)
    if entries := mapping(opened):
        yield path, entries
    for key, part in _parts(opened):
        yield from mappings(part, (*path, key))


def texts(value: object, path: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Every known text in the value and below, with the keys that lead there.

    A text that is JSON is looked into; `{name: A, value: B}`, an environment in Kubernetes, counts as `{A: B}`.
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


def form(text: str) -> str | None:
    """The kind of secret in a text, if it looks like one."""
    return next((what for what, pattern in _FORMS.items() if re.search(pattern, text)), None)


def names_secret(name: str) -> bool:
    """Whether what has this name is a secret."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    return words == ["secret"] or (bool(words) and (words[-1] in _WORDS or " ".join(words[-2:]) in _WORD_PAIRS))


def safe(text: str) -> str:
    """A text as it may be shown."""
    return MASKED if form(text) or _HIDES.search(text) else text


def marked(value: Any, name: str = "") -> Any:
    """A value with what is secret, and what is not known yet, marked; `name` is the key it has."""
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return Secret() if SIGNATURE in table else {key: marked(inner, key) for key, inner in table.items()}
    if isinstance(value, list):
        return [marked(inner, name) for inner in cast("list[Any]", value)]
    if value == UNKNOWN_STRING:
        return UNKNOWN
    hidden = isinstance(value, str) and (_MAY_NAME_SECRET.search(name) or safe(value) == MASKED)
    return Secret() if hidden else value
