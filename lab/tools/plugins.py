"""Pulumi's provider plugins: the official ones where they can be had, else the stand-ins in `lab/plugins/bin`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from lab.tools.cache import bin_directory
from lab.tools.job import ToolError
from lab.tools.official import Publishers, download
from lab.tools.recipes import PLUGINS, plugin_release

STAND_INS = Path(__file__).resolve().parent.parent / "plugins" / "bin"


def installed(name: str) -> Path | None:
    """The official plugin that the engine will use, None when there is none."""
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    program = home / "plugins" / f"resource-{name}-v{PLUGINS[name]}" / f"pulumi-resource-{name}"
    return program if program.is_file() else None


def stand_in(name: str) -> Path | None:
    """The stand-in for a plugin, None when it is not there either."""
    program = STAND_INS / f"pulumi-resource-{name}"
    return program if program.is_file() else None


def install(name: str, pulumi: Path, publishers: Publishers) -> bool:
    """Install the official plugin for the engine; False when its publisher cannot be reached.

    Raises:
        ToolError: its publisher was reached, and then something went wrong.
    """
    release = plugin_release(name)
    checksum = publishers.checksum(release)
    if checksum is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        download(release, checksum, Path(folder), lambda: None)
        command = [str(pulumi), "plugin", "install", "resource", name, PLUGINS[name], "--reinstall", "--file"]
        program = Path(folder) / f"pulumi-resource-{name}"
        if subprocess.run([*command, str(program)], stdin=subprocess.DEVNULL).returncode:
            raise ToolError(f"pulumi could not install the {name} plugin")
    return True


def source(name: str) -> Literal["official", "stand-in", "missing"]:
    """What serves for a plugin."""
    if installed(name):
        return "official"
    return "stand-in" if stand_in(name) else "missing"


def find_pulumi() -> Path | None:
    """The engine in our bin folder, else on PATH."""
    ours = bin_directory() / "pulumi"
    found = str(ours) if ours.exists() else shutil.which("pulumi")
    return Path(found) if found else None
