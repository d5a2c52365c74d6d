"""What is secret, by its form or by its name, and so is not shown.

Judging and showing err to opposite sides: a policy names what surely is a secret, and whatever may be one is masked.
"""

from __future__ import annotations

import re
from typing import Any, cast

from review.values import MASKED, SIGNATURE, UNKNOWN, UNKNOWN_STRING, Secret

_FORMS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "the client key of a kubeconfig": r"client-key-data[\"']?\s*:\s*[\"']?[A-Za-z0-9+/=]{8}",
    "a k3s token": r"\bK10[0-9a-f]{64}::",
    "a JSON Web Token": r"\beyJ[\w-]+\.eyJ[\w-]+\.",
    "a GitHub token": r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{40})",
    "a GitLab token": r"\bglpat-[\w-]{20}",
    "an AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@$]+:[^\s/@$]+@",
}
"""What a secret looks like, whatever it is called."""
_ENCRYPTED = re.compile(rf"\bv1:[\w+/=]{{16}}:[\w+/=]+|{SIGNATURE}")
"""What Pulumi encrypts with a passphrase, and its mark of a secret in a text."""
_WORDS = {"password", "passwd", "passphrase", "token", "apikey", "credentials"}
_WORD_PAIRS = {"api key", "private key", "secret key", "access key", "client secret", "shared secret"}
_MAY_NAME_SECRET = re.compile(
    r"(?i)(password|passwd|passphrase|secret|token|credentials?|(api|private|access)[-_]?key)$"
)


def form(text: str) -> str | None:
    """The kind of secret in a text, if it looks like one."""
    return next((what for what, pattern in _FORMS.items() if re.search(pattern, text)), None)


def names_secret(name: str) -> bool:
    """Whether what has this name is a secret."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    return words == ["secret"] or (bool(words) and (words[-1] in _WORDS or " ".join(words[-2:]) in _WORD_PAIRS))


def safe(text: str) -> str:
    """A text as it may be shown."""
    return MASKED if form(text) or _ENCRYPTED.search(text) else text


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
