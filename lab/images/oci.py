"""OCI image archives, byte for byte the same for the same content.

An archive is a tar of an OCI image layout (opencontainers/image-spec: image-layout.md) with one or more images, which `ctr
images import`, k3s's air-gap folder, `docker load` (25 and later), podman and skopeo read. Layers are not compressed: an archive is
read from a local disk, where decompressing costs a node more than the bytes do.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_LAYER = "application/vnd.oci.image.layer.v1.tar"

EPOCH = 0
"""Modification time of every file in a layer, so that equal content gives an equal digest."""


@dataclass(frozen=True)
class File:
    """A regular file of a layer, from a file on disk or from text.

    Attributes:
        path: place in the image, without the leading slash.
        source: a file on disk, or the content itself.
        mode: permission bits.
        owner: user and group id.
    """

    path: str
    source: Path | bytes
    mode: int = 0o644
    owner: int = 0


@dataclass(frozen=True)
class Link:
    """A symbolic link of a layer; `target` is kept as it is."""

    path: str
    target: str


@dataclass(frozen=True)
class Folder:
    """A folder of a layer, named only when its mode or owner matters: parents of files are made anyway."""

    path: str
    mode: int = 0o755
    owner: int = 0


Entry = File | Link | Folder
Layer = Sequence[Entry]


@dataclass(frozen=True)
class Image:
    """What a container runtime is told about an image (image-spec: config.md).

    Attributes:
        name: full reference, with registry and tag: `docker.io/rancher/mirrored-pause:3.6`.
        layers: from the bottom up.
        entrypoint: the command.
        user: `uid` or `uid:gid`; numeric, as Kubernetes' runAsNonRoot needs.
        env: variables.
        labels: for people.
    """

    name: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str]
    user: str = "0"
    env: dict[str, str] = field(default_factory=dict[str, str])
    labels: dict[str, str] = field(default_factory=dict[str, str])


def write_archive(images: Sequence[Image], path: Path, architecture: str = "amd64") -> None:
    """Write one archive of several images at `path`; an unfinished one never has that name. Equal layers are there once.

    Raises:
        ValueError: a name has no registry or no tag, or two entries of a layer have the same path.
        OSError: a source file cannot be read.
    """
    partial = path.with_name(f".{path.name}.partial")
    with ExitStack() as stack:
        blobs: list[_Blob] = []
        descriptors: list[dict[str, Any]] = []
        for image in images:
            layers = [_digest_file(stack.enter_context(_layer(layer, path.parent))) for layer in image.layers]
            config = _json_blob(_config(image, architecture, layers))
            manifest = _json_blob(_manifest(config, layers))
            descriptors.append(manifest.descriptor(MEDIA_MANIFEST) | {"annotations": _names(image.name)})
            blobs += [manifest, config, *layers]
        index = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": descriptors}
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, "oci-layout", _json_blob({"imageLayoutVersion": "1.0.0"}))
            _add(archive, "index.json", _json_blob(index))
            for digest, blob in {blob.digest: blob for blob in blobs}.items():
                _add(archive, f"blobs/sha256/{digest}", blob)
    partial.rename(path)


@dataclass(frozen=True)
class _Blob:
    content: IO[bytes]
    size: int
    digest: str

    def descriptor(self, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": f"sha256:{self.digest}", "size": self.size}


def _digest_file(file: IO[bytes]) -> _Blob:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # any binary file will do
    return _Blob(file, file.seek(0, io.SEEK_END), digest)


def _json_blob(document: dict[str, Any]) -> _Blob:
    return _digest_file(io.BytesIO(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()))


def _config(image: Image, architecture: str, layers: Sequence[_Blob]) -> dict[str, Any]:
    return {
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": image.user,
            "Env": [f"{key}={value}" for key, value in sorted(image.env.items())],
            "Entrypoint": list(image.entrypoint),
            "Labels": image.labels,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
    }


def _manifest(config: _Blob, layers: Sequence[_Blob]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MEDIA_MANIFEST,
        "config": config.descriptor(MEDIA_CONFIG),
        "layers": [layer.descriptor(MEDIA_LAYER) for layer in layers],
    }


def _names(name: str) -> dict[str, str]:
    registry, _, rest = name.partition("/")
    if "." not in registry or ":" not in rest:
        raise ValueError(f"image name {name!r}: give registry and tag, such as docker.io/library/name:1.0")
    # containerd names the image by its own annotation; docker, podman and skopeo by the specified one
    return {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": rest.rpartition(":")[2]}


def _add(archive: tarfile.TarFile, name: str, blob: _Blob) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = blob.size, 0o644, EPOCH
    blob.content.seek(0)
    archive.addfile(info, blob.content)


def _layer(layer: Layer, folder: Path) -> IO[bytes]:
    """The layer's tar (image-spec: layer.md) as an unnamed file in `folder`: it may be larger than memory."""
    entries = {entry.path: entry for entry in layer}
    if len(entries) != len(layer):
        raise ValueError("two entries of a layer have the same path")
    for parent in {str(parent) for path in entries for parent in Path(path).parents} - {"."}:
        entries.setdefault(parent, Folder(parent))
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  the caller closes it
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(entries):
            _add_entry(tar, entries[path])
    return file


def _add_entry(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mtime = EPOCH
    match entry:
        case Link():
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
            tar.addfile(info)
        case Folder():
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, entry.mode, entry.owner, entry.owner
            tar.addfile(info)
        case File(source=bytes() as content):
            info.size, info.mode, info.uid, info.gid = len(content), entry.mode, entry.owner, entry.owner
            tar.addfile(info, io.BytesIO(content))
        case File(source=source):
            info.mode, info.uid, info.gid = entry.mode, entry.owner, entry.owner
            with Path(source).open("rb") as stream:  # pyright: ignore[reportArgumentType]
                info.size = os.fstat(stream.fileno()).st_size
                tar.addfile(info, stream)
