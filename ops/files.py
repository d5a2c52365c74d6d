"""Files of ours."""

from __future__ import annotations

import os
from pathlib import Path


def secret_file(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whatever was there before."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)
    return path
