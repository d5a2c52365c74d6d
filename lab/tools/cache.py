"""The user's cache: what was made, for which recipe, and the two folders that others use, `bin/` and `artifacts/`.

    tools/<name>/<version>-<key>/    one finished tool with its receipt; the key changes with anything in its recipe
    bin/                             links to what goes on PATH
    artifacts/                       files for machines under names that never change, see artifacts.py
    logs/<name>.log                  what the last attempt said

A tool is made in a hidden sibling and renamed when complete, so a folder that is there is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Source = Literal["PATH", "official", "built"]
"""Where a tool came from; `built` says from package registries, be it compiled, unpacked or put together."""

RECEIPT = "receipt.json"


def cache_root() -> Path:
    """`~/.cache/istio-vms`; stack files name files in it, so it is at the same place for everyone."""
    return Path.home() / ".cache" / "istio-vms"


def bin_directory() -> Path:
    """The folder to put on PATH."""
    return cache_root() / "bin"


def artifacts_directory() -> Path:
    """The folder that machines see, read-only."""
    return cache_root() / "artifacts"


def log_file(name: str) -> Path:
    """Where a tool's build writes what its commands say."""
    return cache_root() / "logs" / f"{name}.log"


@dataclass(frozen=True)
class Receipt:
    """How a finished tool came to be.

    Attributes:
        name: the tool.
        version: its own version.
        source: where it came from.
        seconds: how long that took.
        files: path in the tool's folder -> SHA-256, of every regular file; empty for a root file system.
    """

    name: str
    version: str
    source: Source
    seconds: float
    files: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Slot:
    """The place of one version of one tool in the cache."""

    name: str
    version: str
    key: str

    @property
    def folder(self) -> Path:
        """The finished tool; there only when complete."""
        return cache_root() / "tools" / self.name / f"{self.version}-{self.key}"

    @property
    def partial(self) -> Path:
        """Where it is being made."""
        return self.folder.with_name(f".{self.folder.name}.partial")

    def receipt(self) -> Receipt | None:
        """The receipt of the finished tool, None when there is no finished tool."""
        try:
            return Receipt(**json.loads((self.folder / RECEIPT).read_text()))
        except FileNotFoundError:
            return None

    def finish(self, source: Source, seconds: float, *, hash_files: bool = True) -> Receipt:
        """Turn the partial folder into the finished one."""
        files = hash_tree(self.partial) if hash_files else {}
        receipt = Receipt(self.name, self.version, source, round(seconds, 1), files)
        (self.partial / RECEIPT).write_text(json.dumps(asdict(receipt), indent=1) + "\n")
        if self.folder.exists():  # without a receipt: not one of ours that is complete
            shutil.rmtree(self.folder)
        self.partial.rename(self.folder)
        return receipt

    @contextmanager
    def lock(self) -> Generator[None]:
        """Only one process makes a tool at a time; the lock goes with its holder, however that ends."""
        path = self.folder.with_name(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every regular file below `folder`, in order; links are left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def replace_link(link: Path, target: Path) -> None:
    """Make `link` point to `target`, in one step: there is no moment without it."""
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
