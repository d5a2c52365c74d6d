"""Runs the tests that lie beside our own Go programs, with the lab's compiler and without network."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.tools import found
from lab.tools.gobuild import MODULES, go_environment
from lab.tools.recipes import by_name

OFFLINE = os.environ | go_environment() | {"GOPROXY": "off", "CGO_ENABLED": "0"}


def compiler() -> Path:
    there = found.find(by_name()["go"])
    if not there:
        pytest.skip("no Go compiler on this machine: `make tools` gets one")
    return there.folder / "go/bin/go" if there.folder else there.programs["go"]


@pytest.mark.parametrize(
    ("module", "packages"), [("images", "./..."), ("cni", "./flannel"), ("pulumi-language-python", "./shim")]
)
def test_go_programs(module: str, packages: str) -> None:
    go = compiler()
    listed = subprocess.run([go, "list", "-deps", packages], cwd=MODULES / module, env=OFFLINE, capture_output=True)
    if listed.returncode:
        pytest.skip(f"modules of {module} are not downloaded yet: `make tools` does that")
    tested = subprocess.run([go, "test", packages], cwd=MODULES / module, env=OFFLINE, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
