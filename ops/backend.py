"""Where the stacks' state is kept: a folder of this user, unless one setting names another back end.

`PULUMI_BACKEND_URL` comes first, then `backend.url` of Pulumi.yaml, which is Pulumi's own setting for a whole team.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from ops.errors import OpsError, reason

FOLDER = "file://"
_HINTS = (
    (r"passphrase", "see docs/stacks.md on passphrases"),
    (r"PULUMI_ACCESS_TOKEN|[Uu]nauthorized|\b401\b", "log in with `pulumi login`, or set PULUMI_ACCESS_TOKEN"),
    (
        r"NoSuchBucket|bucket does not exist|ContainerNotFound",
        "there is no such bucket: make it, or put its name right",
    ),
    (
        r"credentials|AccountName is required|AccessDenied|\b403\b",
        "give the cloud's credentials as its own command line takes them, for S3 AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret",
    ),
    (
        r"dial tcp|no such host|connection refused|[Tt]imeout",
        "nobody answers there: look at the address, the network and proxies",
    ),
    (r"no driver registered|unsupported", "this is no back end that Pulumi knows"),
)
"""What Pulumi and the clouds' libraries say, and what to do about it; the first that fits counts."""


def url(env: Mapping[str, str], root: Path, own: Path) -> str:
    """The back end's URL; a folder's with an absolute path.

    Args:
        env: the environment, in which an empty variable counts as one that is not set.
        root: where Pulumi.yaml is; a relative folder is below it.
        own: the folder to use when nothing names a back end.
    """
    named = env.get("PULUMI_BACKEND_URL") or _of_project(root)
    if not named:
        return f"{FOLDER}{own}"
    if named.startswith(FOLDER):
        path, mark, query = named.removeprefix(FOLDER).partition("?")
        return f"{FOLDER}{root / Path(path).expanduser()}{mark}{query}"
    return named


def _of_project(root: Path) -> str:
    """`backend.url` of Pulumi.yaml; empty for none."""
    file = root / "Pulumi.yaml"
    project = yaml.safe_load(file.read_text()) if file.exists() else None
    return ((project or {}).get("backend") or {}).get("url") or ""


def folder(url: str) -> Path | None:
    """The folder that state is kept in; None when it is kept elsewhere."""
    return Path(url.removeprefix(FOLDER).partition("?")[0]) if url.startswith(FOLDER) else None


def keeps_secrets(url: str) -> bool:
    """Whether the back end is a service that has keys of its own, so that no passphrase is needed: Pulumi Cloud."""
    return url.startswith(("https://", "http://"))


def make_folder(path: Path) -> None:
    """See that the folder is there and can be written to.

    Raises:
        OpsError: it cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OpsError(f"state is to be kept in {path}, which cannot be made: {error.strerror}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise OpsError(f"state is kept in {path}, which this user may not write to: change its permissions")


def unreachable(url: str, said: str) -> OpsError:
    """The error for a back end that cannot be used, from all that Pulumi said on stderr."""
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, said)), "")
    named = " (PULUMI_BACKEND_URL)" if os.environ.get("PULUMI_BACKEND_URL") else ""
    parts = [f"the back end {shown(url)}{named} cannot be used", hint, f"Pulumi says: {reason(said)}"]
    return OpsError("\n  ".join(filter(None, parts)))


def shown(url: str) -> str:
    """The URL without a user's password."""
    return re.sub(r"//[^/@]*@", "//…@", url)
