"""Files of ours, which nobody else may read."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_LENT = "lent-"
_LEFT = ("events.jsonl", "policies.jsonl", "id_ed25519", "tmp*")
"""What earlier versions wrote with secrets in it and did not always remove."""


def secret_file(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whatever was there before; several at once, the last one stays, whole."""
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".new")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
    return path


def secret_folder(path: Path) -> Path:
    """Make a folder that only its owner can look into, and those above it where they are missing."""
    for part in reversed([path, *path.parents]):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)
    return path


@contextmanager
def lent_file(folder: Path, name: str, text: str) -> Generator[Path]:
    """A file for another program for as long as that runs; of a process that is killed meanwhile `tidy` removes it."""
    place = Path(tempfile.mkdtemp(dir=folder, prefix=f"{_LENT}{os.getpid()}-"))
    try:
        yield secret_file(place / name, text)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Remove what killed processes and earlier versions left in a folder with secrets in it."""
    for pattern in _LEFT:
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for path in folder.glob(f"{_LENT}*"):
        if not _lives(int(path.name.split("-")[1])):
            shutil.rmtree(path, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def keep_private(folder: Path) -> None:
    """Take from everybody else what they may do with a folder and all that is in it."""
    # os.walk passes over folders that go meanwhile.
    for place, folders, names in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in (*folders, *names))):
            with contextlib.suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if mode & 0o077 and not stat.S_ISLNK(mode):
                    path.chmod(mode & 0o7700)
