"""Versions are exact, and what is downloaded is verified."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from review.model import Options, Resource
from review.values import known, mappings, texts

_EXACT = re.compile(r"v?\d+\.\d+\.\d+([-+.][\w.+-]+)?")
_FLOATING = ("latest", "stable", "main", "master", "edge", "nightly", "dev")
_INJECTED = "auto"
"""The image of a container whose image Istio's injector fills in."""
_ASSIGNED_URL = re.compile(r"\burl='?(https?://[^\s']+)")
_ASSIGNED_DIGEST = re.compile(r"\b(?:sha256|checksums)='?[^\s']")
"""As actions/artifacts.py tells the script that fetches: `name=… url=… sha256=… checksums=…` on a line, empty what is not given."""
_DOWNLOAD = re.compile(r"\b(?:curl|wget)\s[^\n]*?(https?://[^\s'\"`)>|;]+)")
_LOCAL = re.compile(r"https?://(127\.|localhost\b|\[::1\]|[\w.-]+\.svc\b)")
_SHELL = r"\b(?:ba|da|z)?sh\b"
_INTO_SHELL = re.compile(
    rf"\b(?:curl|wget)\s[^\n]*\|\s*(?:sudo\s+)?(?:\w+=\S+\s+)*{_SHELL}|{_SHELL}[^\n]*[$<]\(\s*(?:curl|wget)\s"
)
_VERIFIED = re.compile(r"\b(?:sha(?:256|384|512)sum|shasum|gpgv|gpg\s[^\n]*--verify|cosign\s+verify)\b")


def pinned_versions(resource: Resource, _: Options) -> Iterable[str]:
    """Charts, images and downloads that another day would be other ones."""
    if resource.type.startswith("kubernetes:helm.sh/"):
        yield from _chart(resource)
    if resource.type.startswith("kubernetes:"):
        yield from _images(resource)
    if resource.type.startswith("command:"):
        for path, text in texts(resource.inputs):
            for problem in _script(text):
                yield f"{'.'.join(path)} {problem}"


def _chart(resource: Resource) -> Iterator[str]:
    """A chart in a local folder is pinned as that folder is."""
    chart, version = resource.inputs.get("chart", ""), resource.inputs.get("version", "")
    local = str(chart).startswith((".", "/"))
    if not local and known(chart) and known(version) and not _EXACT.fullmatch(str(version)):
        yield f"chart {chart} has version {str(version)!r}: name one exact version, such as 1.30.3"


def _images(resource: Resource) -> Iterator[str]:
    """Images of containers, and image and tag among a chart's values."""
    for path, part in mappings(resource.inputs):
        image, tag = part.get("image"), part.get("tag")
        if isinstance(image, str) and known(image) and image and not _pinned_image(image):
            yield f"{'.'.join((*path, 'image'))} is {image}: give it a tag that stays what it is, or a digest"
        if isinstance(tag, str) and tag in _FLOATING:
            yield f"{'.'.join((*path, 'tag'))} is {tag}: name one version"


def _pinned_image(image: str) -> bool:
    """Whether it has a tag that stays, or a digest, which stands where a tag would."""
    name, _, tag = image.rpartition("/")[2].partition(":")
    return name == _INJECTED or (bool(tag) and tag not in _FLOATING)


def _script(text: str) -> Iterator[str]:
    """What a command, a script or cloud-init's user-data would fetch. An address of this machine or of the mesh is none of it."""
    if _INTO_SHELL.search(text):
        yield "runs a script as it is downloaded: fetch it, verify its digest, then run it"
    if re.search(r"\bget\.k3s\.io\b", text) and not re.search(r"\bINSTALL_K3S_VERSION=[\"']?v\d", text):
        yield "installs whatever k3s is newest: set INSTALL_K3S_VERSION to one release"
    downloads = [url for url in _DOWNLOAD.findall(text) if not _LOCAL.match(url)]
    if downloads and not _VERIFIED.search(text):
        yield f"downloads {downloads[0]} and never verifies it: compare its SHA-256 digest"
    for line in text.splitlines():
        for url in _ASSIGNED_URL.findall(line):
            downloads.append(url)
            if not _ASSIGNED_DIGEST.search(line):
                yield f"fetches {url} without a digest: give its sha256, or the URL of its publisher's checksums"
    for url in downloads:
        if floating := set(url.split("/")[3:]) & set(_FLOATING):
            yield f"fetches {url}, another file with every release: name a version in place of {floating.pop()}"
