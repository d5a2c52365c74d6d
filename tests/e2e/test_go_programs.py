"""Runs the tests that lie beside our own Go programs, with the compiler and the modules that `make tools` has got for them."""

import os
import subprocess

import pytest

from lab.tools import found
from lab.tools.gobuild import MODULES, go_environment
from lab.tools.recipes import by_name


@pytest.mark.parametrize(
    ("module", "packages"), [("images", "./..."), ("cni", "./flannel"), ("pulumi-language-python", "./shim")]
)
def test_go_programs(module: str, packages: str) -> None:
    there = found.find(by_name()["go"])
    if not there:
        pytest.skip(
            "no Go compiler: every tool that is built with one was there already, or came as its official release"
        )
    go = there.folder / "go/bin/go" if there.folder else there.programs["go"]
    env = os.environ | go_environment() | {"CGO_ENABLED": "0"}
    tested = subprocess.run([go, "test", packages], cwd=MODULES / module, env=env, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
