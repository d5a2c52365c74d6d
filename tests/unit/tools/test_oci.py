"""Image archives, checked against the image specification by reading them back."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab.images.oci import File, Folder, Image, Link, write_archive


def image(name: str = "docker.io/library/probe:1.0", text: str = "hello") -> Image:
    return Image(
        name=name,
        layers=[
            [File("usr/bin/tool", text.encode(), 0o755), Link("bin", "usr/bin"), Folder("tmp", 0o1777)],
            [File("home/me/note", b"mine", 0o600, owner=1000)],
        ],
        entrypoint=["/usr/bin/tool", "run"],
        user="1000:1000",
        env={"B": "2", "A": "1"},
        labels={"kind": "probe"},
    )


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """What a descriptor points to, after the checks every runtime makes."""
    content = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert len(content) == descriptor["size"]
    assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    return content


def read_layer(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as layer:
        return {member.name: member for member in layer}


def test_an_archive_is_an_image_layout_with_true_sizes_and_digests(tmp_path: Path) -> None:
    write_archive([image()], tmp_path / "probe.tar")
    files = read(tmp_path / "probe.tar")
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/probe:1.0",
        "org.opencontainers.image.ref.name": "1.0",
    }
    manifest = json.loads(blob(files, entry))
    config = json.loads(blob(files, manifest["config"]))
    layers = [blob(files, layer) for layer in manifest["layers"]]
    # uncompressed layers: the digest of the content is that of the blob
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["Entrypoint"] == ["/usr/bin/tool", "run"]
    assert config["config"]["User"] == "1000:1000"
    assert config["config"]["Env"] == ["A=1", "B=2"]
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert len(layers) == 2


def test_a_layer_has_modes_owners_links_and_parents_before_children(tmp_path: Path) -> None:
    write_archive([image()], tmp_path / "probe.tar")
    files = read(tmp_path / "probe.tar")
    manifest = json.loads(blob(files, json.loads(files["index.json"])["manifests"][0]))
    first, second = (read_layer(blob(files, layer)) for layer in manifest["layers"])
    assert list(first) == ["bin", "tmp", "usr", "usr/bin", "usr/bin/tool"]
    assert first["bin"].linkname == "usr/bin"
    assert first["tmp"].mode == 0o1777
    assert first["usr/bin/tool"].mode == 0o755
    assert first["usr/bin/tool"].size == len("hello")
    note = second["home/me/note"]
    assert (note.uid, note.gid, note.mode) == (1000, 1000, 0o600)
    assert second["home"].uid == 0


def test_equal_content_gives_equal_bytes_whenever_it_is_written(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_text("#!/bin/sh\n")
    archives = []
    for time, name in ((1, "a.tar"), (2_000_000_000, "b.tar")):
        os.utime(source, (time, time))
        probe = Image("docker.io/library/probe:1.0", [[File("tool", source, 0o755)]], ["/tool"])
        write_archive([probe], tmp_path / name)
        archives.append((tmp_path / name).read_bytes())
    assert archives[0] == archives[1]


def test_other_content_gives_another_digest(tmp_path: Path) -> None:
    write_archive([image(text="a")], tmp_path / "a.tar")
    write_archive([image(text="b")], tmp_path / "b.tar")
    digests = [json.loads(read(tmp_path / name)["index.json"])["manifests"][0]["digest"] for name in ("a.tar", "b.tar")]
    assert digests[0] != digests[1]


def test_images_share_equal_layers_in_one_archive(tmp_path: Path) -> None:
    write_archive([image(), image("docker.io/library/other:2.0")], tmp_path / "both.tar")
    with tarfile.open(tmp_path / "both.tar") as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    # two manifests (the config is equal too), one config, two layers, and the two files of the layout
    assert len(names) == 1 + 1 + 2 + 2


@pytest.mark.parametrize("name", ["probe", "library/probe:1.0", "docker.io/library/probe"])
def test_a_name_without_registry_or_tag_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="registry and tag"):
        write_archive([image(name)], tmp_path / "probe.tar")
    assert not (tmp_path / "probe.tar").exists()


def test_two_entries_with_one_path_are_refused(tmp_path: Path) -> None:
    double = Image("docker.io/library/probe:1.0", [[File("a", b"1"), File("a", b"2")]], ["/a"])
    with pytest.raises(ValueError, match="same path"):
        write_archive([double], tmp_path / "probe.tar")
