"""Files of a Debian root for an image: chosen programs with the shared libraries they load, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from lab.images.oci import Entry, File, Link

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "lib64/ld-linux-x86-64.so.2"

MERGED_USR = tuple(Link(name, f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin"))
"""Debian's merged /usr: the links through which programs find their loader."""


class UserlandError(Exception):
    """The root file system lacks a file that an image needs."""


def programs(root: Path, *paths: str) -> list[Entry]:
    """The programs at `paths` in `root` and every shared library they need, all in their own places."""
    files = {path: _existing(root, path) for path in paths}
    return with_libraries(root, files)


def with_libraries(root: Path, files: dict[str, Path]) -> list[Entry]:
    """The given programs or plug-ins (path in the image -> file) and the libraries they need, taken from `root`.

    Raises:
        UserlandError: a library is missing.
    """
    entries: list[Entry] = [File(path, source, 0o755) for path, source in files.items()]
    libraries = sorted({name for source in files.values() for name in _needed(root, source)})
    entries += [File(f"{LIBRARIES}/{name}", _existing(root, f"{LIBRARIES}/{name}"), 0o755) for name in libraries]
    if libraries:
        entries.append(File(f"usr/{LOADER}", _existing(root, LOADER), 0o755))
    return entries


def tree(root: Path, folder: str, pattern: str = "*") -> list[Entry]:
    """The files of one folder of `root` whose names match."""
    found = sorted((root / folder).glob(pattern))
    if not found:
        raise UserlandError(f"{root}: no {folder}/{pattern}")
    return [File(f"{folder}/{path.name}", path) for path in found if path.is_file()]


def merge(*groups: Iterable[Entry]) -> list[Entry]:
    """One layer of several groups, each path once (two programs share their libraries)."""
    return list({entry.path: entry for group in groups for entry in group}.values())


def users(names: dict[str, int]) -> list[Entry]:
    """/etc/passwd and /etc/group with root, nobody and the given users, each with a group of its name."""
    everyone = {"root": 0} | names | {"nobody": 65534}
    passwd = "".join(f"{name}:x:{number}:{number}::/:/sbin/nologin\n" for name, number in everyone.items())
    group = "".join(f"{name}:x:{number}:\n" for name, number in everyone.items())
    return [File("etc/passwd", passwd.encode()), File("etc/group", group.encode())]


def certificates(root: Path) -> list[Entry]:
    """The authorities that Debian trusts, as the one file that OpenSSL, Go and Envoy look for."""
    return [File("etc/ssl/certs/ca-certificates.crt", _existing(root, "etc/ssl/certs/ca-certificates.crt"))]


def iptables(root: Path) -> list[Entry]:
    """Both iptables and ip6tables, nft and legacy, under all their names, with their extensions."""
    entries = programs(root, "usr/sbin/xtables-nft-multi", "usr/sbin/xtables-legacy-multi")
    for family in ("iptables", "ip6tables"):
        for action in ("", "-save", "-restore"):
            for variant in ("nft", "legacy"):
                entries.append(Link(f"usr/sbin/{family}-{variant}{action}", f"xtables-{variant}-multi"))
            entries.append(Link(f"usr/sbin/{family}{action}", "xtables-nft-multi"))
    extensions = {str(path.relative_to(root)): path for path in sorted((root / LIBRARIES / "xtables").glob("*.so"))}
    return merge(entries, with_libraries(root, extensions), [File("etc/protocols", _existing(root, "etc/protocols"))])


def _needed(root: Path, program: Path) -> set[str]:
    """Names of the shared libraries that the root's own loader would load for a program; none for a static one."""
    command = [root / LOADER, "--library-path", root / LIBRARIES, "--list", program]
    listed = subprocess.run(command, capture_output=True, text=True)
    if "statically linked" in listed.stdout + listed.stderr or "not a dynamic executable" in listed.stderr:
        return set()
    if listed.returncode or "not found" in listed.stdout:
        raise UserlandError(f"{program}: a library is missing from {root}:\n{listed.stdout}{listed.stderr}")
    names = {line.split(" => ")[0].strip() for line in listed.stdout.splitlines() if " => " in line}
    return {name for name in names if "/" not in name}  # the one with a path is the loader itself


def _existing(root: Path, path: str) -> Path:
    """The file behind `path` in `root`, following links as they are meant: absolute ones start at the root."""
    current = root / path
    for _ in range(8):
        if not current.is_symlink():
            break
        target = current.readlink()
        current = root / target.relative_to("/") if target.is_absolute() else current.parent / target
    if not current.is_file():
        raise UserlandError(f"{root}: no file {path}")
    return current
