"""Running the real Pulumi engine on small programs, with the stand-ins or with the official plugins."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi import automation as auto
from pulumi.automation import events

from lab.tools import plugins

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "lab" / "plugins" / "bin"
_TOOLS = ("pulumi", "pulumi-language-python", "helm")


def official_plugins() -> bool:
    """Whether both official plugins are installed, so that the scenarios can be held against them as well."""
    return all(plugins.installed(name) for name in ("command", "kubernetes"))


def tool(name: str) -> str:
    """A program on PATH; its absence is a failure, not a reason to skip."""
    found = shutil.which(name, path=search_path())
    assert found, f"{name} is not on PATH: run `make tools`, and the tests by `make engine`"
    return found


def search_path() -> str:
    """This interpreter first: the language host takes the first python3 of PATH."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@dataclass
class Outcome:
    """What an engine operation did."""

    steps: dict[str, str] = field(default_factory=dict[str, str])
    """Resource name → operation, without those that stayed the same."""
    order: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(operation, resource name) as they were begun."""
    said: str = ""
    """All diagnostics."""
    failed: bool = False


class _Recorder:
    """Takes the engine's events apart."""

    def __init__(self) -> None:
        self.outcome = Outcome()

    def __call__(self, event: events.EngineEvent) -> None:
        if event.resource_pre_event:
            step = event.resource_pre_event.metadata
            name = step.urn.rsplit("::", 1)[-1]
            operation = str(getattr(step.op, "value", step.op))
            if operation not in ("same", "read", "refresh"):
                self.outcome.steps.setdefault(name, operation)
                self.outcome.order.append((operation, name))
        if event.diagnostic_event:
            self.outcome.said += event.diagnostic_event.message


@dataclass
class Program:
    """A Pulumi program in a folder of its own, with its own state."""

    folder: Path
    env: Mapping[str, str]
    stack: auto.Stack

    @classmethod
    def start(cls, name: str, folder: Path, *, official: bool) -> Program:
        """Copy the program `name` to `folder` and make its stack."""
        for needed in _TOOLS:
            tool(needed)
        work, state = folder / name, folder / "state"
        shutil.copytree(PROGRAMS / name, work)
        # Pulumi runs an action in the project's folder.
        (work / "actions").symlink_to(ROOT / "actions")
        state.mkdir()
        passphrase = folder / "passphrase"
        passphrase.write_text("only for this test")
        passphrase.chmod(0o600)
        env = {
            "PATH": search_path() if official else os.pathsep.join([search_path(), str(PLUGINS)]),
            "PULUMI_BACKEND_URL": f"file://{state}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "KUBECONFIG": "",
        }
        if not official:
            env |= {"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true", "PULUMI_HOME": str(folder / "home")}
        options = auto.LocalWorkspaceOptions(env_vars=env)
        return cls(work, env, auto.create_stack("test", work_dir=str(work), opts=options))

    def configure(self, **settings: object) -> None:
        """Set what the program reads as its configuration, as JSON where it is no text."""
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
        self.stack.set_all_config({key: auto.ConfigValue(text) for key, text in texts.items()})

    def preview(self) -> Outcome:
        """`pulumi preview`."""
        return self._run(lambda record: self.stack.preview(on_event=record))

    def up(self, *replace: str) -> Outcome:
        """`pulumi up`, which makes the resources with these URNs anew."""
        return self._run(lambda record: self.stack.up(on_event=record, replace=list(replace)))

    def refresh(self) -> Outcome:
        """`pulumi refresh`."""
        return self._run(lambda record: self.stack.refresh(on_event=record))

    def destroy(self) -> Outcome:
        """`pulumi destroy`."""
        return self._run(lambda record: self.stack.destroy(on_event=record))

    def pulumi(self, *command: str) -> str:
        """What `pulumi …` prints on the stack."""
        words = [tool("pulumi"), *command, "--stack", "test", "--non-interactive"]
        return subprocess.run(
            words, cwd=self.folder, env={**os.environ, **self.env}, capture_output=True, text=True, check=True
        ).stdout

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets in clear."""
        return {name: output.value for name, output in self.stack.outputs().items()}

    def resources(self) -> dict[str, dict[str, Any]]:
        """The state's resources by name; see `is_secret`."""
        deployment = self.stack.export_stack().deployment
        assert deployment is not None
        return {entry["urn"].rsplit("::", 1)[-1]: entry for entry in deployment.get("resources") or []}

    def state_text(self) -> str:
        """Everything the back end has on disk, to search for what must not be there."""
        files = (self.folder.parent / "state").rglob("*")
        return "".join(path.read_text(errors="replace") for path in files if path.is_file())

    def remove(self) -> None:
        """Destroy what is left; a run that the test killed has left its lock."""
        if self.destroy().failed:
            self.stack.cancel()
            self.stack.destroy()

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """`pulumi …` as a process of its own, for tests that end it in the middle."""
        process = subprocess.Popen(
            [tool("pulumi"), *command, "--stack", "test", "--non-interactive"],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()

    def _run(self, operation: Callable[[_Recorder], object]) -> Outcome:
        record = _Recorder()
        try:
            operation(record)
        except auto.CommandError as error:
            record.outcome.failed = True
            record.outcome.said += str(error)
        return record.outcome


def is_secret(value: Any) -> bool:
    """Whether a value of an exported state is encrypted on disk (the export shows it)."""
    return isinstance(value, dict) and "1b47061264138c4ac30d75fd1eb44270" in value.values()


def cpu_seconds() -> float:
    """What the programs that this process has waited for have used of a processor, with those they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def until(test: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for `test` to hold."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """All processes below `pid`."""
    direct = [
        int(child) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()
    ]
    return [process for child in direct for process in (child, *children(child))]
