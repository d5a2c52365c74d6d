"""A machine with the fake `multipass` on its PATH, for tests: sets faults, looks at the state, runs the command."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

FAKE = Path(__file__).with_name("multipass")


class FakeMultipass:
    """One daemon's worth of instances below `folder`; `bin` goes on PATH, `MULTIPASS_FAKE_DIR` into the environment."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "multipassd"
        self.home.mkdir(parents=True)
        self.bin = folder / "bin"
        self.bin.mkdir()
        wrapper = self.bin / "multipass"
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"\n')
        wrapper.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.bin}:{os.environ['PATH']}", "MULTIPASS_FAKE_DIR": str(self.home)}

    def faults(self, **values: Any) -> None:
        """Replaces all faults; without arguments everything works at once."""
        new = self.home / "faults.json.new"
        new.write_text(json.dumps(values))
        new.replace(self.home / "faults.json")

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.environment
        return subprocess.run(
            ["multipass", *words], input=stdin, capture_output=True, text=True, env=environment, timeout=60
        )

    @property
    def instances(self) -> dict[str, dict[str, Any]]:
        file = self.home / "state.json"
        return json.loads(file.read_text())["instances"] if file.exists() else {}

    def change(self, name: str, **values: Any) -> None:
        """Something happens to an instance behind everyone's back."""
        file, new = self.home / "state.json", self.home / "state.json.changed"
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads(file.read_text())
            state["instances"][name].update(values)
            new.write_text(json.dumps(state))
            new.replace(file)

    def root(self, name: str) -> Path:
        """The instance's file system."""
        return self.home / "instances" / name

    def send(self, name: str, program: str, request: dict[str, Any]) -> dict[str, Any]:
        """What a program answers that a machine is sent over SSH and that has `root` in its request. Its systemctl is a stand-in.

        It acts on the instance's own file system, so that what it leaves there is what the next command finds.
        """
        tools = self.home / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "systemctl").write_text("#!/bin/sh\n[ $1 != show ] || echo 'Sat 2026-11-21 10:00:00 UTC'\n")
        (tools / "systemctl").chmod(0o755)
        ran = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps({**request, "root": str(self.root(name))}),
            env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def calls(self, verb: str = "") -> list[list[str]]:
        """The command lines so far, of one verb or all."""
        lines = (self.home / "calls.log").read_text().splitlines() if (self.home / "calls.log").exists() else []
        return [words for words in map(json.loads, lines) if not verb or words[:1] == [verb]]
