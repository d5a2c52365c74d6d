"""Where a stack's state lives, and how Pulumi is called on it.

State stays outside the checkout, in `${XDG_STATE_HOME:-~/.local/state}/istio-vms`, so that `git clean` or a second clone loses no
environment. `PULUMI_BACKEND_URL` chooses another back end. A stack's encryption salt is kept there too: it belongs to this user's
passphrase and not into the repository's stack file.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.machines.driver import DriverError
from components.machines.multipass import check_host as check_multipass
from components.machines.nspawn import check_host
from lab.tools import plugins
from lab.tools.cache import bin_directory
from lab.tools.recipes import PLUGINS
from ops.errors import OpsError, missing_pulumi, reason

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "istio-vms"
_SALT = ("encryptionsalt", "secretsprovider", "encryptedkey")


def state_home() -> Path:
    """The folder of this user's state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / PROJECT


def stack_files() -> dict[str, Path]:
    """Stack names to the files that describe them."""
    files = {path.name.removeprefix("Pulumi.").removesuffix(".yaml"): path for path in ROOT.glob("Pulumi.*.yaml")}
    return dict(sorted(files.items()))


def choose_stack() -> tuple[str, str]:
    """The stack to work on, and why.

    Raises:
        OpsError: `STACK` names a stack that has no file.
    """
    wanted = os.environ.get("STACK")
    if wanted:
        if wanted not in stack_files():
            raise OpsError(f"STACK={wanted}: there is no Pulumi.{wanted}.yaml; stacks are {', '.join(stack_files())}")
        return wanted, "STACK asks for it"
    if shutil.which("multipass"):
        return "dev", "Multipass is installed"
    return "lab", "Multipass is not installed"


def official_plugins() -> bool:
    """Whether Pulumi's own providers serve the program; else the lab's stand-ins do."""
    return all(plugins.installed(name) for name in PLUGINS)


def environment() -> dict[str, str]:
    """What Pulumi and its plugins run with: our tools first on PATH, state in a local folder unless asked otherwise."""
    home = state_home()
    env = dict(os.environ)
    path = [ROOT / ".venv/bin", bin_directory()]
    if not official_plugins():
        path.append(plugins.STAND_INS)
        env["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
    # Once each, so that a shell that has evaluated `make env` is already what it would be.
    given = [folder for folder in env.get("PATH", "").split(os.pathsep) if Path(folder) not in path]
    env["PATH"] = os.pathsep.join([*map(str, path), *given])
    env.setdefault("PULUMI_BACKEND_URL", f"file://{home / 'backend'}")
    if "PULUMI_CONFIG_PASSPHRASE" not in env:
        env.setdefault("PULUMI_CONFIG_PASSPHRASE_FILE", str(home / "passphrase"))
    env["PULUMI_SKIP_UPDATE_CHECK"] = "true"
    return env


def get_tools(stack: str, *, machines: bool) -> None:
    """Get what is missing of the tools that a stack needs; quick when nothing is.

    Args:
        stack: the stack's name.
        machines: whether machines will be made. Those of driver nspawn need all of the lab's tools, others Pulumi alone.

    Raises:
        OpsError: the machines cannot run on this host, or a tool could not be had; the reasons of that are on stderr.
    """
    settings = yaml.safe_load(stack_files()[stack].read_text())["config"]
    driver: str = settings.get(f"{PROJECT}:machines", {}).get("driver", "") if machines else ""
    lab = driver == "nspawn"
    if check := {"nspawn": check_host, "multipass": check_multipass}.get(driver):
        try:
            check()
        except DriverError as error:
            raise OpsError(str(error)) from error
    command = [sys.executable, "-m", "lab.tools", "install", "--quiet", *([] if lab else ["pulumi"])]
    # On stderr, tables too: what a target prints on stdout may be for a program.
    code = subprocess.run(command, cwd=ROOT, stdout=sys.__stderr__, check=False).returncode
    if code:
        raise OpsError(
            "not every tool could be had, see above; `make tools` goes on from here, `make doctor` says what is there"
        )


@dataclass(frozen=True)
class Stack:
    """One stack of this project. `env` is what everything that works on it runs with."""

    name: str
    env: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """What belongs to this stack besides Pulumi's own state; removed by `down`."""
        return state_home() / "stacks" / self.name

    @property
    def config_file(self) -> Path:
        """The stack file with this user's encryption salt."""
        return self.folder / f"Pulumi.{self.name}.yaml"

    @property
    def local_backend(self) -> Path | None:
        """The folder that Pulumi keeps state in, None when it is kept elsewhere."""
        url = self.env["PULUMI_BACKEND_URL"]
        return Path(url.removeprefix("file://")).expanduser() if url.startswith("file://") else None

    @classmethod
    def open(cls, name: str) -> Stack:
        """The stack; the passphrase, the back end and the stack are made when they are not there yet."""
        stack = cls(name, environment())
        if "PULUMI_CONFIG_PASSPHRASE_FILE" in stack.env:
            _make_passphrase(Path(stack.env["PULUMI_CONFIG_PASSPHRASE_FILE"]))
        if stack.local_backend:
            stack.local_backend.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not stack.exists():
            stack._init()
        stack._write_config()
        return stack

    @classmethod
    def find(cls, name: str) -> Stack:
        """The stack, when there is one already.

        Raises:
            OpsError: it was never brought up.
        """
        stack = cls(name, environment())
        if not stack.exists():
            raise OpsError(f"stack {name} is not up; `make up STACK={name}` brings it up")
        stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack._write_config()
        return stack

    def exists(self) -> bool:
        """Whether the back end knows the stack."""
        if self.local_backend:
            if not self.local_backend.is_dir():
                return False
            _mend(self.local_backend)
        listed = json.loads(self.pulumi("stack", "ls", "--json"))
        return any(entry["name"].rsplit("/", 1)[-1] == self.name for entry in listed)

    def _init(self) -> None:
        """`stack init` writes the salt into the stack file of the folder it runs in, so it gets a folder of its own."""
        scratch = self.folder / "init"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        (scratch / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
        self.pulumi("stack", "init", self.name, "--no-select", cwd=scratch)
        made = scratch / f"Pulumi.{self.name}.yaml"
        if made.exists():
            made.replace(self.config_file)
        shutil.rmtree(scratch)

    def _write_config(self) -> None:
        """The repository's stack file, with the salt that Pulumi wrote into ours; one the repository has itself wins."""
        text = stack_files()[self.name].read_text()
        known: dict[str, Any] = {}
        if self.config_file.exists():
            known = yaml.safe_load(self.config_file.read_text()) or {}
        salt = {key: known[key] for key in _SALT if key in known and key not in (yaml.safe_load(text) or {})}
        new = self.config_file.with_suffix(".new")
        new.write_text(f"{text}\n{yaml.safe_dump(salt)}" if salt else text)
        new.replace(self.config_file)

    def settings(self) -> dict[str, Any]:
        """The tables of the stack file, unchecked: the program checks them."""
        config = (yaml.safe_load(stack_files()[self.name].read_text()) or {}).get("config") or {}
        return {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items()}

    def pulumi(self, *arguments: str, cwd: Path = ROOT) -> str:
        """Run the Pulumi command line; what it printed.

        Raises:
            OpsError: it failed; its reason is in the message.
        """
        command = ["pulumi", *arguments, "--non-interactive", "--color", "never"]
        try:
            ran = subprocess.run(
                command, cwd=cwd, env=self.env, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False
            )
        except FileNotFoundError:
            raise missing_pulumi() from None
        if ran.returncode:
            why = reason(ran.stderr if ran.stderr.strip() else ran.stdout)
            raise OpsError(f"`pulumi {' '.join(arguments[:2])}` failed: {why}")
        return ran.stdout

    def on_stack(self, verb: str, *arguments: str) -> list[str]:
        """The words of an operation on this stack: up, preview, destroy."""
        return [verb, "--stack", self.name, "--config-file", str(self.config_file), *arguments]

    def deployment(self) -> dict[str, Any]:
        """The stack's state with its secrets in the clear; `ops.state` reads it."""
        return json.loads(self.pulumi("stack", "export", "--stack", self.name, "--show-secrets"))["deployment"]

    def module(self, module: str, verb: str, document: Any, tell: Callable[[str], None] | None = None) -> Any:
        """Run one of this project's own command lines as the program does; its answer.

        Args:
            module: a package with a command line.
            verb: what it is to do.
            document: what it reads on stdin.
            tell: gets each line of its progress.

        Raises:
            OpsError: it failed; the message is what it said last.
        """
        said: list[str] = []
        with (
            tempfile.TemporaryFile("w+") as answer,
            subprocess.Popen(
                [sys.executable, "-m", module, verb],
                cwd=ROOT,
                env=self.env,
                text=True,
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=subprocess.PIPE,
            ) as child,
        ):
            assert child.stdin and child.stderr
            # All of stdin is read before anything is said. A child that ends before it tells why below.
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(json.dumps(document))
            for line in child.stderr:
                said.append(line)
                if tell:
                    tell(line.rstrip())
            if child.wait():
                raise OpsError(reason("".join(said)))
            answer.seek(0)
            return json.load(answer)


def _mend(backend: Path) -> None:
    """Remove the empty `.attrs` files that an engine leaves when it is killed as it writes: with one no stack can be listed.

    They only hold a digest and a content type, and a blob without one is read as well; see gocloud.dev's blob/fileblob.
    """
    for path in backend.glob(".pulumi/**/*.attrs"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == 0:
                path.unlink()


def secret_file(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whatever was there before."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)
    return path


def forget(stack: Stack) -> None:
    """Remove what a destroyed and removed stack leaves in our own folder: its settings, keys, and the back end's history of it.

    With the last stack goes all of it, the passphrase too. A back end that `PULUMI_BACKEND_URL` names is left alone.
    """
    shutil.rmtree(stack.folder, ignore_errors=True)
    backend = state_home() / "backend"
    if stack.local_backend != backend:
        return
    for traces in (f"backups/{PROJECT}", f"history/{PROJECT}", f"locks/organization/{PROJECT}"):
        shutil.rmtree(backend / ".pulumi" / traces / stack.name, ignore_errors=True)
    for path in (backend / ".pulumi/stacks" / PROJECT).glob(f"{stack.name}.json*"):
        path.unlink()
    others = state_home() / "stacks"
    if not any(others.glob("*")) and not json.loads(stack.pulumi("stack", "ls", "--all", "--json")):
        shutil.rmtree(state_home())


def _make_passphrase(path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret_file(path, secrets.token_urlsafe(32))
    print(f"made a passphrase for the stacks' secrets: {path}", file=sys.stderr)


def run(arguments: Sequence[str]) -> int:
    """Run any command with the environment Pulumi gets."""
    try:
        return subprocess.run(list(arguments), cwd=ROOT, env=environment(), check=False).returncode
    except FileNotFoundError:
        raise OpsError(f"{arguments[0]}: there is no such command") from None
