"""Which tools are there already: on PATH in a suitable version, or finished in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.tools.cache import Receipt, Slot, Source, bin_directory, replace_link
from lab.tools.recipes import key
from lab.tools.tool import OnPath, Tool


@dataclass(frozen=True)
class Found:
    """A tool that is there.

    Attributes:
        version: what it says on PATH, what the recipe says otherwise.
        source: where it came from.
        seconds: how long it took when it was made.
        programs: name -> file, for PATH.
        folder: the finished folder in the cache, None for one on PATH.
        receipt: of the finished folder.
    """

    version: str
    source: Source
    seconds: float
    programs: Mapping[str, Path]
    folder: Path | None = None
    receipt: Receipt | None = None


def slot(tool: Tool) -> Slot:
    """The tool's place in the cache."""
    return Slot(tool.name, tool.version, key(tool))


def find(tool: Tool) -> Found | None:
    """The tool where it is, None when it has to be got."""
    return (_on_path(tool, tool.on_path) if tool.on_path else None) or in_cache(tool)


def in_cache(tool: Tool) -> Found | None:
    """The finished tool in the cache."""
    place = slot(tool)
    receipt = place.receipt()
    if not receipt:
        return None
    programs = {name: place.folder / file for name, file in tool.links.items()}
    return Found(receipt.version, receipt.source, receipt.seconds, programs, place.folder, receipt)


def link(tool: Tool, found: Found) -> None:
    """Put the tool's programs into bin/, those on PATH too: what is in bin/ is complete."""
    for name in tool.links:
        if name in found.programs:
            replace_link(bin_directory() / name, found.programs[name])


def _on_path(tool: Tool, wanted: OnPath) -> Found | None:
    paths = [
        entry for entry in os.environ.get("PATH", "").split(os.pathsep) if entry and Path(entry) != bin_directory()
    ]
    names = [*(tool.links or [wanted.command[0]]), *wanted.beside]
    programs = {name: shutil.which(name, path=os.pathsep.join(paths)) for name in dict.fromkeys(names)}
    program = programs[wanted.command[0]]
    if not program or any(programs[name] is None for name in wanted.beside):
        return None
    try:
        said = subprocess.run([program, *wanted.command[1:]], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = parse_version(said.stdout) if said.returncode == 0 else None
    if not version or version[0] != wanted.at_least[0] or version < wanted.at_least:
        return None
    present = {name: Path(path) for name, path in programs.items() if path}
    return Found(".".join(map(str, version)), "PATH", 0, present)


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The first x.y or x.y.z in a text."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None
