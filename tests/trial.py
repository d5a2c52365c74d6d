"""A lab stack beside the user's own: a copy of the checkout with its own state and networks, driven through `make` as a user does.

The end-to-end tests and the bench work on one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TAIL_LINES = 60

_CALLERS_OWN = (
    "STACK",
    "VM",
    "ARGS",
    "PULUMI_BACKEND_URL",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
)


class TrialError(Exception):
    """A `make` failed, or another trial of the same name runs. The message has the end of the log."""


@dataclass(frozen=True)
class Run:
    """How a `make` ended: its exit code, all it printed, the seconds it took."""

    command: str
    code: int
    text: str
    seconds: float

    def check(self) -> Run:
        """Itself.

        Raises:
            TrialError: it failed.
        """
        if self.code:
            tail = "\n".join(self.text.splitlines()[-TAIL_LINES:])
            raise TrialError(f"`{self.command}` ended with {self.code} after {self.seconds:.0f} s:\n{tail}")
        return self


class Started:
    """A `make` under way, its output going to a file."""

    def __init__(self, command: list[str], folder: Path, env: Mapping[str, str], log: Path) -> None:
        """Start it."""
        self._begun = time.monotonic()
        self._command = " ".join(command)
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )

    def wait(self) -> Run:
        """Wait for its end."""
        code = self.process.wait()
        return Run(self._command, code, self.log.read_text(errors="replace"), time.monotonic() - self._begun)


class Trial:
    """The copy and its stack. `settings` is the stack file's `config`; `write_settings` makes a change count."""

    def __init__(self, folder: Path, stack: str, cidrs: Mapping[str, str]) -> None:
        """Make the copy in an empty folder.

        Args:
            folder: gets the copy, the state and the logs.
            stack: the stack's name.
            cidrs: the networks' names to their ranges, which nobody else on this machine uses.
        """
        self.stack = stack
        self.owner = f"istio-vms/{stack}"
        self.checkout, self.state, self._logs = folder / "checkout", folder / "state", folder / "logs"
        self._logs.mkdir()
        self._runs = 0
        kept = {k: v for k, v in os.environ.items() if k not in _CALLERS_OWN and not k.startswith(("MAKE", "MFLAGS"))}
        self._env = kept | {"XDG_STATE_HOME": str(self.state), "COLUMNS": "200"}
        _copy_checkout(self.checkout)
        self.settings: dict[str, Any] = yaml.safe_load((self.checkout / "Pulumi.lab.yaml").read_text())["config"]
        for network in self.settings["istio-vms:machines"]["networks"]:
            network["cidr"] = cidrs[network["name"]]
        self.write_settings()
        levels = self.checkout / "review/levels"
        (levels / f"{self.stack}.json").write_text((levels / "lab.json").read_text())

    def write_settings(self) -> None:
        """Write the stack file."""
        (self.checkout / f"Pulumi.{self.stack}.yaml").write_text(yaml.safe_dump({"config": self.settings}))

    def start(self, target: str, **variables: str) -> Started:
        """Start `make -s <target>` on the stack; variables go through the environment."""
        self._runs += 1
        env = self._env | {"STACK": self.stack} | variables
        log = self._logs / f"{self._runs:02}-{target}.log"
        return Started(["make", "-s", target], self.checkout, env, log)

    def make(self, target: str, **variables: str) -> Run:
        """Run `make -s <target>` on the stack to its end, well or not."""
        return self.start(target, **variables).wait()

    def ssh(self, machine: str, command: str) -> Run:
        """Run a command on a machine as `make ssh` does; exit codes other than 0 are all make's 2."""
        return self.make("ssh", VM=machine, ARGS=command)

    def pulumi(self, *arguments: str) -> str:
        """What pulumi prints when called by hand, as `make env` says."""
        script = f'eval "$(make -s env)"; exec pulumi {" ".join(arguments)} --stack {self.stack} --non-interactive'
        return subprocess.run(
            ["bash", "-euc", script], cwd=self.checkout, env=self._env, capture_output=True, text=True, check=True
        ).stdout

    def logs(self) -> str:
        """Everything that every `make` has printed."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._logs.iterdir()))

    def machines(self) -> dict[str, dict[str, Any]]:
        """The stack's machines by their short names, as the driver sees them."""
        listed = self._driver("list", {})
        return {machine["name"].removeprefix(f"{self.stack}-"): machine for machine in listed}

    def delete_machines(self) -> None:
        """Remove the machines whatever Pulumi knows of them: what a dead trial left."""
        for machine in self._driver("list", {}):
            self._driver("delete", {"name": machine["name"]})

    def delete_machine(self, machine: str) -> None:
        """Remove one behind Pulumi's back."""
        self._driver("delete", {"name": f"{self.stack}-{machine}"})

    def _driver(self, verb: str, document: Mapping[str, Any]) -> Any:
        request = {"driver": "nspawn", "owner": self.owner, "options": {}, **document}
        command = [sys.executable, "-m", "actions", f"machines.{verb}"]
        ran = subprocess.run(
            command, cwd=self.checkout, env=self._env, input=json.dumps(request), stdout=subprocess.PIPE, text=True,
            check=True,
        )  # fmt: skip
        return json.loads(ran.stdout)


@contextmanager
def trial(folder: Path, stack: str, cidrs: Mapping[str, str]) -> Generator[Trial]:
    """A trial whose machines are gone before and afterwards, whatever happens between; one of a name at a time on a host.

    Raises:
        TrialError: another one of that name runs.
    """
    with alone(stack):
        made = Trial(folder, stack, cidrs)
        made.delete_machines()
        try:
            yield made
        finally:
            if made.machines():
                made.make("down")
                made.delete_machines()


@contextmanager
def alone(stack: str) -> Generator[None]:
    """The kernel frees an abstract socket's name with its process, however that ends; see unix(7)."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0istio-vms-trial-{stack}")
        except OSError:
            raise TrialError(f"another trial of stack {stack} runs on this machine: wait for its end") from None
        yield


def _copy_checkout(target: Path) -> None:
    """Copy the working tree as it is, without what git ignores; the Python environment is shared."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source, copy = ROOT / name, target / name
        if source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    (target / ".venv").symlink_to(ROOT / ".venv")
