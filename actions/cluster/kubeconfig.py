"""A kubeconfig cut down to one context, with every file it names put in its place: what may be kept and used elsewhere. No pulumi.

Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

_FILES = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
}
"""Keys that name a file, and the keys that hold the same in base64."""


class KubeconfigError(Exception):
    """The kubeconfig cannot be used. The message says what is wrong and what to do; no secret is in it.

    Attributes:
        part: what is wrong: `kubeconfig`, the file, or `context`, the choice in it.
    """

    def __init__(self, message: str, part: str = "kubeconfig") -> None:
        """Keep which setting it is about beside the message."""
        super().__init__(message)
        self.part = part


def read(path: str, context: str) -> str:
    """The kubeconfig of one context, as YAML; equal input gives equal text.

    Args:
        path: the kubeconfig's file.
        context: the name of a context in it.

    Raises:
        KubeconfigError: there is no such file or context, or it cannot be used as it is.
    """
    file = Path(path)
    try:
        text = file.read_text()
    except FileNotFoundError:
        raise KubeconfigError(f"{path!r}: does not exist; get one from the cluster's owner") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{path!r}: cannot be read: {error}") from None
    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict) or "contexts" not in document:
        raise KubeconfigError(f"{path!r}: is no kubeconfig; `kubectl config view --kubeconfig {path}` should show it")
    return minified(cast("Mapping[str, Any]", document), context, file.parent)


def minified(document: Mapping[str, Any], context: str, folder: Path) -> str:
    """The kubeconfig cut down to one context.

    Args:
        document: the whole kubeconfig.
        context: the name of a context in it.
        folder: what paths in it are relative to.

    Raises:
        KubeconfigError: there is no such context, what it names is not there, or it cannot be used elsewhere.
    """
    chosen = _entry(document, "context", context)
    named = {what: str(chosen.get(what) or "") for what in ("cluster", "user")}
    cluster, user = (_embedded(_entry(document, what, named[what]), folder) for what in ("cluster", "user"))
    if not cluster.get("server"):
        raise KubeconfigError(f"{context!r}: its cluster {named['cluster']!r} has no server", "context")
    if "auth-provider" in user:
        raise KubeconfigError(
            f"{context!r}: user {named['user']!r} has an auth-provider, which Kubernetes gave up in 1.26; have the kubeconfig recreated by "
            "your provider's own tool, which uses exec instead",
            "context",
        )
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "contexts": [{"name": context, "context": named}],
            "clusters": [{"name": named["cluster"], "cluster": cluster}],
            "users": [{"name": named["user"], "user": user}],
        },
        sort_keys=True,
    )


def _entry(document: Mapping[str, Any], what: str, name: str) -> Mapping[str, Any]:
    """The context, cluster or user of that name."""
    rows: list[Mapping[str, Any]] = document.get(f"{what}s") or []
    found: dict[str, Mapping[str, Any]] = {str(row.get("name")): row.get(what, {}) for row in rows}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise KubeconfigError(f"{name!r}: no such {what} in the kubeconfig, which has {known}", "context")
    return found[name]


def _embedded(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The table with the contents of files in their place; a program of `exec` that is given by a path stays where it is."""
    # Tools note in extensions when they last wrote an entry: that is no news of the cluster.
    result = {key: value for key, value in table.items() if key != "extensions"}
    for key, data in _FILES.items():
        if key in result:
            result[data] = base64.b64encode(_content(folder, key, result.pop(key))).decode()
    if "tokenFile" in result:
        result["token"] = _content(folder, "tokenFile", result.pop("tokenFile")).decode().strip()
    program: Mapping[str, Any] = result.get("exec", {})
    command = str(program.get("command", ""))
    if "/" in command:
        result["exec"] = {**program, "command": str(folder.resolve() / command)}
    return result


def _content(folder: Path, key: str, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{key} {path!r} cannot be read: {error.strerror}") from None
