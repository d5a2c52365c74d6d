"""Official releases, from files in the place of a publisher."""

import hashlib
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.tools.job import ToolError
from lab.tools.official import CONNECT_SECONDS, Publishers, Release, download, listed_checksum

DIGEST = "a" * 64


def nothing() -> None:
    """Never stops a download."""


@pytest.mark.parametrize(
    "text",
    [
        f"{'b' * 64}  other\n{DIGEST}  tool.tar.gz\n",  # sha256sum
        f"{DIGEST} *tool.tar.gz\n",  # sha256sum --binary
        f"{DIGEST}\n",  # a bare digest, as Go's publisher has it
        f"{DIGEST.upper()}  tool.tar.gz",
    ],
)
def test_a_checksum_is_found_in_the_usual_forms(text: str) -> None:
    assert listed_checksum(text, "tool.tar.gz") == DIGEST


@pytest.mark.parametrize("text", ["", f"{DIGEST}  other\n", "<html>\nnot found\n</html>", "abc  tool.tar.gz"])
def test_a_list_without_the_file_is_an_error(text: str) -> None:
    with pytest.raises(ToolError, match=r"tool\.tar\.gz"):
        listed_checksum(text, "tool.tar.gz")


def archive(path: Path, files: dict[str, bytes]) -> Release:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return Release(path.as_uri(), "https://nowhere.invalid/sums", {"tool/bin/": "bin/", "tool/LICENSE": "LICENSE"})


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_an_archive_is_verified_and_unpacked(tmp_path: Path) -> None:
    release = archive(tmp_path / "t.tar.gz", {"tool/bin/a": b"A", "tool/LICENSE": b"L", "tool/other": b"O"})
    folder = target(tmp_path)
    download(release, digest(tmp_path / "t.tar.gz"), folder, nothing)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == ["LICENSE", "bin/a"]
    assert (folder / "bin/a").stat().st_mode & 0o777 == 0o755


def test_another_checksum_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    release = archive(tmp_path / "t.tar.gz", {"tool/bin/a": b"A", "tool/LICENSE": b"L"})
    folder = target(tmp_path)
    with pytest.raises(ToolError, match="SHA-256"):
        download(release, DIGEST, folder, nothing)
    assert not (folder / "bin").exists()


@pytest.mark.parametrize("files", [{"tool/bin/a": b"A"}, {"tool/bin/../../escape": b"E", "tool/LICENSE": b"L"}])
def test_a_missing_or_escaping_member_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    release = archive(tmp_path / "t.tar.gz", files)
    with pytest.raises(ToolError):
        download(release, digest(tmp_path / "t.tar.gz"), target(tmp_path), nothing)
    assert not (tmp_path / "escape").exists()


def test_a_bare_program_is_executable(tmp_path: Path) -> None:
    (tmp_path / "k3s").write_bytes(b"\x7fELF")
    release = Release((tmp_path / "k3s").as_uri(), "https://nowhere.invalid/sums", {"": "k3s"})
    folder = target(tmp_path)
    download(release, digest(tmp_path / "k3s"), folder, nothing)
    assert (folder / "k3s").stat().st_mode & 0o111


def test_an_interrupted_download_stops(tmp_path: Path) -> None:
    (tmp_path / "k3s").write_bytes(b"x")
    release = Release((tmp_path / "k3s").as_uri(), "https://nowhere.invalid/sums", {"": "k3s"})
    stop: Callable[[], None] = pytest.fail
    with pytest.raises(pytest.fail.Exception):
        download(release, DIGEST, target(tmp_path), stop)


def test_a_publisher_that_cannot_be_reached_is_no_error_and_no_wait() -> None:
    # port 1 on loopback refuses; a refusal is final
    release = Release("https://127.0.0.1:1/tool", "https://127.0.0.1:1/sums", {"": "tool"})
    begun = time.monotonic()
    assert Publishers([release]).checksum(release) is None
    assert time.monotonic() - begun < CONNECT_SECONDS


def test_checksums_over_plain_http_are_refused() -> None:
    release = Release("https://127.0.0.1:1/tool", "http://127.0.0.1:1/sums", {"": "tool"})
    with pytest.raises(ValueError, match="https"):
        Publishers([release])
