"""Files taken from a root file system; the host itself serves as one."""

from pathlib import Path

import pytest

from lab.images import userland
from lab.images.oci import File, Link

HOST = Path("/")
debian = pytest.mark.skipif(
    not (HOST / userland.LOADER).exists() or not (HOST / userland.LIBRARIES / "libc.so.6").exists(),
    reason="the host's libraries are not where Debian for amd64 has them",
)


@debian
def test_a_program_comes_with_its_libraries_and_loader() -> None:
    entries = userland.programs(HOST, "usr/bin/env")
    paths = {entry.path for entry in entries}
    assert {"usr/bin/env", f"{userland.LIBRARIES}/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2"} <= paths
    assert all(isinstance(entry, File) and entry.mode == 0o755 for entry in entries)


@debian
def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(userland.UserlandError, match="script"):
        userland.with_libraries(HOST, {"script": script})


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "usr/bin/real").write_text("here")
    (tmp_path / "etc/alternatives/tool").symlink_to("/usr/bin/real")  # absolute: from the root, not from the host
    (tmp_path / "usr/bin/tool").symlink_to("/etc/alternatives/tool")
    (tmp_path / "etc/ssl/certs").mkdir(parents=True)
    (tmp_path / "etc/ssl/certs/ca-certificates.crt").symlink_to("/usr/bin/tool")
    (entry,) = userland.certificates(tmp_path)
    assert isinstance(entry, File)
    assert entry.source == tmp_path / "usr/bin/real"


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(userland.UserlandError, match=r"etc/ssl/certs/ca-certificates\.crt"):
        userland.certificates(tmp_path)


def test_users_have_groups_of_their_name() -> None:
    passwd, group = userland.users({"istio-proxy": 1337})
    assert isinstance(passwd, File) and isinstance(group, File)
    assert b"istio-proxy:x:1337:1337::" in bytes(passwd.source)  # type: ignore[arg-type]
    assert b"istio-proxy:x:1337:\n" in bytes(group.source)  # type: ignore[arg-type]


def test_merging_keeps_each_path_once() -> None:
    merged = userland.merge([Link("a", "1"), Link("b", "2")], [Link("a", "1")])
    assert [entry.path for entry in merged] == ["a", "b"]
