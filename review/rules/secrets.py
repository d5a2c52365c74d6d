"""No secret in plain text: not in a command, an environment, Helm values or a Kubernetes object."""

from __future__ import annotations

import re
from collections.abc import Iterable

from review.rules.model import Options, Path, Resource, texts

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

_WORDS = {"password", "passwd", "passphrase", "token", "apikey", "credentials"}
_WORD_PAIRS = {"api key", "private key", "secret key", "access key", "client secret", "shared secret"}
_ASSIGNED = re.compile(
    r"(?:--(?P<option>[\w-]+)[= ]|(?P<variable>[A-Za-z_]\w*)=)(?P<value>\"[^\"]*\"|'[^']*'|[^\s;|&<>'\"]+)"
)
"""`--name value`, `--name=value` and `NAME=value` in a command or script."""
_HARMLESS = re.compile(r"|true|false|yes|no|null|none|\d{1,5}[a-z]?|[~.]?/[\w./-]+", re.IGNORECASE)
"""Values that are no secret under any name: nothing, a switch, a number or a time, a path."""


def plaintext_secrets(resource: Resource, _: Options) -> Iterable[str]:
    """What is secret by its form or by its name and can be read all the same. Messages never repeat it."""
    for path, text in texts(resource.inputs):
        what = _unmarked(resource, path) or _form(text) or _named(path[-1], text) or _assigned(text)
        if what and (resource.secrets_hidden or not _made_for_secrets(resource, path)):
            yield f"{'.'.join(path)} has {what} in plain text: make it a secret (pulumi.Output.secret), and give it to commands on stdin"


def _made_for_secrets(resource: Resource, path: Path) -> bool:
    """Where secrets belong. Whether they are marked as secrets there is seen only where marks are."""
    if resource.type.startswith("pulumi:providers:"):
        return True
    if resource.type.startswith("command:"):
        return path[0] in ("stdin", "connection")
    return _in_secret(resource, path)


def _in_secret(resource: Resource, path: Path) -> bool:
    return resource.kind == "Secret" and path[0] in ("data", "stringData")


def _unmarked(resource: Resource, path: Path) -> str | None:
    return "a value of a Secret" if _in_secret(resource, path) else None


def _form(text: str) -> str | None:
    return next((what for what, pattern in _FORMS.items() if re.search(pattern, text)), None)


def _named(name: str, text: str) -> str | None:
    return f"the value of {name}" if _is_secret_name(name) and _is_literal(text) else None


def _assigned(text: str) -> str | None:
    for found in _ASSIGNED.finditer(text):
        name = found["option"] or found["variable"]
        if _is_secret_name(name) and _is_literal(found["value"].strip("\"'")):
            return f"the value of {name}"
    return None


def _is_secret_name(name: str) -> bool:
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    return words == ["secret"] or (bool(words) and (words[-1] in _WORDS or " ".join(words[-2:]) in _WORD_PAIRS))


def _is_literal(text: str) -> bool:
    """Whether it is the value itself and not a reference to one, as `$NAME` and `$(command)` are."""
    return "$" not in text and not _HARMLESS.fullmatch(text)
