"""Official releases: downloaded from their publisher and checked against the publisher's own list of checksums."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab.tools.job import ToolError

CONNECT_SECONDS = 3
"""How long a publisher has to answer the first request; most often it is a name that does not resolve."""


@dataclass(frozen=True)
class Release:
    """One file of an official release.

    Attributes:
        url: the program itself or a .tar.gz.
        checksums: https address of the publisher's SHA-256 list: `sha256sum` lines, or a bare digest.
        members: member of the archive, or a prefix that ends in `/`, -> place in the tool's folder; for a bare program "" -> place.
    """

    url: str
    checksums: str
    members: Mapping[str, str]


class Publishers:
    """What the publishers answer: asked once per run, all at the same time, each with a few seconds to do so."""

    def __init__(self, releases: Iterable[Release]) -> None:
        """Ask for every checksum list; answers are awaited when first needed."""
        self._deadline = time.monotonic() + 2 * CONNECT_SECONDS
        self._answers = {url: _ask(url) for url in {release.checksums for release in releases}}

    def checksum(self, release: Release) -> str | None:
        """The release's SHA-256, None when its publisher cannot be reached.

        Raises:
            ToolError: the publisher answers, but does not list the file.
        """
        try:
            text = self._answers[release.checksums].result(max(0, self._deadline - time.monotonic()))
        except (OSError, http.client.HTTPException, TimeoutError):
            return None
        return listed_checksum(text, Path(urlsplit(release.url).path).name)


def _ask(url: str) -> Future[str]:
    if not url.startswith("https://"):
        raise ValueError(f"{url}: checksums are only trusted over https")
    answer: Future[str] = Future()

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:  # noqa: S310  https, see above
                answer.set_result(response.read(1 << 20).decode())
        except Exception as error:
            answer.set_exception(error)

    # a daemon: resolving a name has no time-out, and nobody shall wait for it at the end
    threading.Thread(target=ask, name=f"ask {url}", daemon=True).start()
    return answer


def listed_checksum(text: str, name: str) -> str:
    """The digest of `name` in the output of sha256sum, or the only digest of a file that holds nothing else.

    Raises:
        ToolError: there is none.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    found = [words[0] for words in lines if len(words) == 2 and words[1].lstrip("*") == name]
    if lines and len(lines[0]) == 1:
        found.append(lines[0][0])
    if not found or len(found[0]) != 64:
        raise ToolError(f"the publisher's checksums do not list {name}")
    return found[0].lower()


def download(release: Release, checksum: str, folder: Path, check: Callable[[], None]) -> None:
    """Fetch a release into `folder` and unpack what is wanted.

    Args:
        release: what to fetch.
        checksum: its SHA-256.
        folder: an empty folder.
        check: called now and then; what it raises ends the download.

    Raises:
        ToolError: the download broke off, is not what the publisher lists, or lacks a member.
    """
    archive = folder / ".download"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(release.url, timeout=60) as response, archive.open("wb") as file:  # noqa: S310  checked below
            while chunk := response.read(1 << 20):
                check()
                digest.update(chunk)
                file.write(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise ToolError(f"{release.url}: {error}") from error
    if digest.hexdigest() != checksum:
        raise ToolError(f"{release.url}: SHA-256 is {digest.hexdigest()}, the publisher lists {checksum}")
    if "" in release.members:
        archive.chmod(0o755)
        archive.rename(folder / release.members[""])
        return
    unpack(archive, release.members, folder)
    archive.unlink()


def unpack(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    """Take the wanted regular files out of a .tar.gz.

    Raises:
        ToolError: a member is missing, or would land outside `folder`.
    """
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            place = _place(member.name, members)
            content = tar.extractfile(member) if place and member.isfile() else None
            if not place or not content:
                continue
            target = folder / place
            if ".." in target.parts:
                raise ToolError(f"{archive}: {member.name} would leave the folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)
            target.chmod(0o755 if member.mode & 0o111 else 0o644)
    missing = [place for place in members.values() if not (folder / place).exists()]
    if missing:
        raise ToolError(f"the release holds no {', '.join(missing)}")


def _place(name: str, members: Mapping[str, str]) -> str | None:
    for original, place in members.items():
        if name == original:
            return place
        if original.endswith("/") and name.startswith(original):
            return place + name.removeprefix(original)
    return None
