"""`artifacts/`: what machines and charts are made from, under names without a version, so that stack files can name them.

Every folder has a SHA256SUMS that `sha256sum -c` understands. Files are hard links to the tools they come from, not symbolic ones:
machines see only this folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.tools.cache import Receipt, artifacts_directory, replace_link

SUMS = "SHA256SUMS"

FOLDERS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "k3s": {"k3s": ("k3s", "k3s"), "k3s-tools.tar": ("k3s-tools", "k3s-tools.tar")},
    "k3s/images": {
        "cluster.tar": ("k3s-images", "cluster.tar"),
        "istio.tar": ("istio-images", "istio.tar"),
        "samples.tar": ("k3s-images", "samples.tar"),
    },
    "istio": {"istio-sidecar.deb": ("istio-sidecar", "istio-sidecar.deb")},
    "istio/charts": {"": ("istio", "charts/")},
    "istio-next": {
        "istio-sidecar.deb": ("istio-sidecar-next", "istio-sidecar.deb"),
        "istio.tar": ("istio-images-next", "istio.tar"),
    },
    "istio-next/charts": {"": ("istio-next", "charts/")},
}
"""Folder -> file in it -> tool and its file; a name that ends in `/` is a folder with all that is in it."""

OPTIONAL = ("istio-next", "istio-next/charts")
"""The folders of tools that are got only when they are named: nobody misses these."""

ROOTFS = "rootfs"
"""Link to the root file system, for the nspawn driver: machines do not look into it."""


@dataclass(frozen=True)
class Finished:
    """A finished tool: where it is, and what is in it."""

    folder: Path
    receipt: Receipt


def publish(finished: Mapping[str, Finished]) -> None:
    """Bring every folder up to date whose tools are all there. Killed at any point, the next call completes it."""
    for folder, entries in FOLDERS.items():
        if all(tool in finished for tool, _ in entries.values()):
            _publish_folder(artifacts_directory() / folder, _files(entries, finished))
    if "rootfs" in finished:
        replace_link(artifacts_directory() / ROOTFS, finished["rootfs"].folder / "root")


def problems() -> list[str]:
    """What is missing below `artifacts/`: files that no SHA256SUMS lists, or listed ones that are gone."""
    found = [f"artifacts/{ROOTFS} is missing"] if not (artifacts_directory() / ROOTFS).is_dir() else []
    for folder in (name for name in FOLDERS if name not in OPTIONAL):
        listed = _read_sums(artifacts_directory() / folder)
        gone = [name for name in listed if not (artifacts_directory() / folder / name).is_file()]
        if not listed:
            found.append(f"artifacts/{folder} is missing")
        found += [f"artifacts/{folder}/{name} is missing" for name in gone]
    return found


def _files(entries: Mapping[str, tuple[str, str]], finished: Mapping[str, Finished]) -> dict[str, tuple[Path, str]]:
    """Name in the folder -> file of the tool and its digest, folders spelled out."""
    files: dict[str, tuple[Path, str]] = {}
    for name, (tool, source) in entries.items():
        for path, digest in finished[tool].receipt.files.items():
            if path == source or (source.endswith("/") and path.startswith(source)):
                place = name + path.removeprefix(source) if source.endswith("/") else name
                files[place] = (finished[tool].folder / path, digest)
    return files


def _publish_folder(folder: Path, files: Mapping[str, tuple[Path, str]]) -> None:
    before = _read_sums(folder)
    for name, (source, digest) in files.items():
        target = folder / name
        if before.get(name) != digest or not target.is_file() or not target.samefile(source):
            _link(source, target)
    _write_sums(folder, {name: digest for name, (_, digest) in files.items()})
    for name in before.keys() - files.keys():  # only what an earlier run listed as its own
        (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / name).parent.rmdir()


def _link(source: Path, target: Path) -> None:
    """Put a file in its place in one step; a copy where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(source)
    except OSError:
        shutil.copy(source, temporary)
    temporary.replace(target)


def _read_sums(folder: Path) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError):
        lines = (folder / SUMS).read_text().splitlines()
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return {}


def _write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    temporary = folder / f".{SUMS}.{os.getpid()}"
    temporary.write_text(text)
    temporary.replace(folder / SUMS)
