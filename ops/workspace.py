"""Where a stack's state lives, and how Pulumi is called on it.

State stays outside the checkout, in `${XDG_STATE_HOME:-~/.local/state}/istio-vms`, so that `git clean` or a second clone loses no
environment; `backend` says how another back end is chosen. How a stack's secrets are encrypted (its salt, or its key in a cloud) is read
from its state, so that everyone who has the passphrase can work on it; a stack file that says so itself wins.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from ops import backend, passphrase
from ops.errors import OpsError, missing_pulumi, reason

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "istio-vms"
EVENT_LOG = {"PULUMI_DEBUG_COMMANDS": "true"}
"""Without the variable Pulumi has no `--event-log`."""
_SALT = ("encryptionsalt", "encryptedkey")
"""What only Pulumi can make; it goes with the `secretsprovider`."""


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
    """What Pulumi and its plugins run with: our tools first on PATH, state in a local folder unless asked otherwise.

    An empty variable of Pulumi's counts as none: that is what CI makes of a secret that is not set.
    """
    home = state_home()
    env = {key: value for key, value in os.environ.items() if value or not key.startswith("PULUMI_")}
    path = [ROOT / ".venv/bin", bin_directory()]
    if not official_plugins():
        path.append(plugins.STAND_INS)
        env["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
    # Once each, so that a shell that has evaluated `make env` is already what it would be.
    given = [folder for folder in env.get("PATH", "").split(os.pathsep) if Path(folder) not in path]
    env["PATH"] = os.pathsep.join([*map(str, path), *given])
    env["PULUMI_BACKEND_URL"] = backend.url(env, ROOT, home / "backend")
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
        """The stack file with what encrypts its secrets."""
        return self.folder / f"Pulumi.{self.name}.yaml"

    @property
    def local_backend(self) -> Path | None:
        """The folder that Pulumi keeps state in, None when it is kept elsewhere."""
        return backend.folder(self.env["PULUMI_BACKEND_URL"])

    @classmethod
    def open(cls, name: str) -> Stack:
        """The stack; the passphrase, the back end and the stack are made when they are not there yet.

        Raises:
            OpsError: the back end cannot be used, or the stack's secrets cannot be opened.
        """
        stack = cls(name, environment())
        backend.make_folder(state_home())
        if stack.local_backend:
            backend.make_folder(stack.local_backend)
        if stack.exists():
            stack._prepare()
        else:
            stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack._init()
        stack._try_secrets()
        return stack

    @classmethod
    def find(cls, name: str) -> Stack:
        """The stack, when there is one already.

        Raises:
            OpsError: it was never brought up, or what opens its secrets is missing.
        """
        stack = cls(name, environment())
        if not stack.exists():
            raise OpsError(f"stack {name} is not up; `make up STACK={name}` brings it up")
        stack._prepare()
        return stack

    def exists(self) -> bool:
        """Whether the back end knows the stack."""
        if self.local_backend:
            if not self.local_backend.is_dir():
                return False
            _mend(self.local_backend)
        ran = self.run("stack", "ls", "--json")
        if ran.returncode:
            raise backend.unreachable(self.env["PULUMI_BACKEND_URL"], ran.stderr)
        return any(entry["name"].rsplit("/", 1)[-1] == self.name for entry in json.loads(ran.stdout))

    def _prepare(self) -> None:
        """Write the stack file for Pulumi, with what encrypts the secrets of the state that is there."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        provider = (
            json.loads(self.pulumi("stack", "export", "--stack", self.name))["deployment"].get("secrets_providers")
            or {}
        )
        if provider.get("type") == "passphrase":
            passphrase.need(self.env, self.name, made_by="whoever made the stack has it")
        self._write_config(_encryption(provider))

    def _init(self) -> None:
        """Make the stack. `stack init` writes what encrypts it into the stack file of the folder it runs in, so it gets one of its own."""
        own = self._own_encryption()
        provider = own.get("secretsprovider", "default")
        if provider == "passphrase" or (
            provider == "default" and not backend.keeps_secrets(self.env["PULUMI_BACKEND_URL"])
        ):
            passphrase.make(self.env, self.name, may_be_new=self.local_backend == state_home() / "backend")
        scratch = self.folder / "init"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        (scratch / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
        made = scratch / f"Pulumi.{self.name}.yaml"
        made.write_text(yaml.safe_dump(own))
        self.pulumi("stack", "init", self.name, "--no-select", "--secrets-provider", provider, cwd=scratch)
        self._write_config(yaml.safe_load(made.read_text()) or {})
        shutil.rmtree(scratch)

    def _own_encryption(self) -> dict[str, str]:
        """What the repository's stack file itself says of encryption."""
        document = yaml.safe_load(stack_files()[self.name].read_text()) or {}
        return {key: document[key] for key in ("secretsprovider", *_SALT) if key in document}

    def _write_config(self, encryption: Mapping[str, str]) -> None:
        """The repository's stack file, with what it lacks of encryption; where it has another provider or its own salt, that wins."""
        own = self._own_encryption()
        moved = own.get("secretsprovider", encryption.get("secretsprovider")) != encryption.get("secretsprovider")
        further = (
            {} if moved or any(key in own for key in _SALT) else {k: v for k, v in encryption.items() if k not in own}
        )
        text = stack_files()[self.name].read_text()
        new = self.config_file.with_suffix(".new")
        new.write_text(f"{text}\n{yaml.safe_dump(further)}" if further else text)
        new.replace(self.config_file)

    def _try_secrets(self) -> None:
        """Encrypt something as the stack does, in a file of its own: a wrong passphrase or a key we may not use is told now."""
        file = self.folder / "try.yaml"
        document = yaml.safe_load(self.config_file.read_text()) or {}
        file.write_text(yaml.safe_dump({key: document[key] for key in ("secretsprovider", *_SALT) if key in document}))
        try:
            self.pulumi("config", "set", "try", "it", "--secret", "--stack", self.name, "--config-file", str(file))
        finally:
            file.unlink()

    def settings(self) -> dict[str, Any]:
        """The tables of the stack file, unchecked: the program checks them."""
        config = (yaml.safe_load(stack_files()[self.name].read_text()) or {}).get("config") or {}
        return {key.removeprefix(f"{PROJECT}:"): value for key, value in config.items()}

    def pulumi(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run the Pulumi command line; what it printed.

        Raises:
            OpsError: it failed; its reason is in the message.
        """
        ran = self.run(*arguments, cwd=cwd)
        if ran.returncode:
            why = reason(ran.stderr if ran.stderr.strip() else ran.stdout)
            raise passphrase.refused(self.env, self.name, why) or OpsError(
                f"`pulumi {' '.join(arguments[:2])}` failed: {why}"
            )
        return ran.stdout

    def run(
        self, *arguments: str, cwd: Path | None = None, log: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the Pulumi command line in the project, or in folder `cwd`: how it ended and what it printed. `log` gets the engine's events.

        Raises:
            OpsError: there is no Pulumi.
        """
        command = ["pulumi", *arguments, "--non-interactive", "--color", "never"]
        command += ["--event-log", str(log)] if log else []
        try:
            return subprocess.run(
                command,
                cwd=cwd or ROOT,
                env={**self.env, **EVENT_LOG} if log else self.env,
                text=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except FileNotFoundError:
            raise missing_pulumi() from None

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


def _encryption(provider: Mapping[str, Any]) -> dict[str, str]:
    """`secrets_providers` of a deployment as keys of a stack file; a service that has keys of its own needs none.

    See `pkg/secrets/passphrase/manager.go` and `pkg/secrets/cloud/manager.go` in Pulumi's sources.
    """
    kept = provider.get("state") or {}
    match provider.get("type"):
        case "passphrase":
            return {"encryptionsalt": kept["salt"]}
        case "cloud":
            return {"secretsprovider": kept["url"], "encryptedkey": kept["encryptedkey"]}
        case _:
            return {}


def forget(stack: Stack) -> None:
    """Remove what a destroyed and removed stack leaves in our own folder: its settings, keys, and the back end's history of it.

    With the last stack goes all of it, the passphrase too. A back end that somebody named is left alone.
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


def run(arguments: Sequence[str]) -> int:
    """Run any command with the environment Pulumi gets."""
    try:
        return subprocess.run(list(arguments), cwd=ROOT, env=environment(), check=False).returncode
    except FileNotFoundError:
        raise OpsError(f"{arguments[0]}: there is no such command") from None
