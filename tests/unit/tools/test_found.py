"""What is on PATH already."""

from pathlib import Path

import pytest

from lab.tools import found
from lab.tools.cache import bin_directory
from lab.tools.tool import OnPath, Tool

PROBE = Tool(
    name="probe",
    version="3.17.3",
    steps=[],
    links={"probe": "probe"},
    on_path=OnPath(["probe", "version"], at_least=(3, 17, 0), beside=["probe-helper"]),
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.parametrize(
    ("said", "suitable"),
    [("v3.17.3", True), ("v3.20.0+g1", True), ("3.17", True), ("v3.16.9", False), ("v4.0.0", False), ("none", False)],
)
def test_only_a_suitable_version_counts(path: Path, said: str, suitable: bool) -> None:
    program(path, "probe-helper", "")
    program(path, "probe", f"echo {said}")
    assert (found.find(PROBE) is not None) == suitable


def test_it_is_linked_from_where_it_is(path: Path) -> None:
    program(path, "probe-helper", "")
    probe = program(path, "probe", "echo v3.18.1")
    there = found.find(PROBE)
    assert there and there.source == "PATH" and there.version == "3.18.1" and there.folder is None
    found.link(PROBE, there)
    assert (bin_directory() / "probe").readlink() == probe


def test_a_companion_must_be_there_too(path: Path) -> None:
    program(path, "probe", "echo v3.17.3")
    assert found.find(PROBE) is None


def test_a_program_that_fails_does_not_count(path: Path) -> None:
    program(path, "probe-helper", "")
    program(path, "probe", "echo v3.17.3; exit 1")
    assert found.find(PROBE) is None


def test_our_own_links_are_not_taken_for_the_users_programs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bin_directory(), "probe", "echo v3.17.3")
    program(bin_directory(), "probe-helper", "")
    monkeypatch.setenv("PATH", f"{bin_directory()}:{path}:/usr/bin:/bin")
    assert found.find(PROBE) is None
