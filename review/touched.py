"""Which stacks a change of the repository can touch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_STACK_FILE = re.compile(r"Pulumi\.([^/]+)\.yaml")
_NOTHING: Final = (
    ".ci/",
    ".gitignore",
    "bench/",
    "docs/",
    "pyproject.toml",
    "requirements-dev.txt",
    "tests/",
    "verify/",
)
"""What no stack is made of: it is read by people, or runs before or after."""
_ENGINE: Final = ("lab/tools/go/pulumi/", "lab/tools/go/pulumi-language-python/")
"""What previews every stack, though it is among the lab's tools."""
_LAB: Final = ("lab/images/", "lab/rootfs.py", "lab/tools/go/")
"""What only stacks of driver nspawn are made of. The rest of lab/ also gets Pulumi and stands in for its providers."""


def touched(paths: Iterable[str], drivers: Mapping[str, str]) -> list[str]:
    """The stacks that a change of these files can touch, in order; every one for a file that is not known.

    Args:
        paths: changed files, old and new names of moved ones, relative to the repository and with `/` between folders.
        drivers: stack names to the machine drivers they use. A stack whose file was deleted is not among them.
    """
    found: set[str] = set()
    for path in paths:
        found |= _touched(path, drivers)
    return sorted(found)


def _touched(path: str, drivers: Mapping[str, str]) -> set[str]:
    if stack := _STACK_FILE.fullmatch(path):
        return {stack[1]} & drivers.keys()
    if _among(path, _NOTHING) or path.endswith(".md"):
        return set()
    if _among(path, _LAB) and not _among(path, _ENGINE):
        return {name for name, driver in drivers.items() if driver == "nspawn"}
    return set(drivers)


def _among(path: str, places: Iterable[str]) -> bool:
    """Whether a path is one of these files, or in one of these folders."""
    return any(path.startswith(place) if place.endswith("/") else path == place for place in places)
