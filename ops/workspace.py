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

from actions.machines.multipass import check_host as check_multipass
from actions.machines.nspawn import check_host
from actions.protocol import Action, Failure
from lab.tools import plugins
from lab.tools.cache import bin_directory
from lab.tools.recipes import PLUGINS
from ops import backend, event_log, lock, passphrase, stack_file
from ops.errors import ActionFailed, OpsError, missing_pulumi, reason
from ops.event_log import EventLog
from ops.files import keep_private, lent_file, secret_file, secret_folder, tidy
from ops.stack_file import SALT, StackFile, StackFileError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "istio-vms"


def state_home() -> Path:
    """The folder of this user's state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / PROJECT


def own_backend() -> Path:
    """The folder that state is kept in unless somebody names another back end."""
    return state_home() / "backend"


def folder_of(stack: str) -> Path:
    """What belongs to a stack besides Pulumi's own state."""
    return state_home() / "stacks" / stack


def stack_files() -> dict[str, Path]:
    """Stack names to the files that describe them."""
    files = {path.name.removeprefix("Pulumi.").removesuffix(".yaml"): path for path in ROOT.glob("Pulumi.*.yaml")}
    return dict(sorted(files.items()))


def read_stack_file(stack: str) -> StackFile:
    """The file that describes a stack.

    Raises:
        StackFileError: there is none, or it cannot be read.
    """
    return stack_file.read(stack, ROOT / f"Pulumi.{stack}.yaml")


def driver_of(stack: str) -> str:
    """The machine driver that a stack's file names; empty for none, and while it cannot be read."""
    try:
        return read_stack_file(stack).driver
    except StackFileError:
        return ""


def choose_stack(wanted: str | None) -> tuple[str, str]:
    """The stack to work on, and why.

    Args:
        wanted: the one that somebody asks for; without it the host decides.

    Raises:
        OpsError: there is no file for that stack.
    """
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
    env["PULUMI_BACKEND_URL"] = backend.url(env, ROOT, own_backend())
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
    driver = read_stack_file(stack).driver if machines else ""
    lab = driver == "nspawn"
    if check := {"nspawn": check_host, "multipass": check_multipass}.get(driver):
        try:
            check()
        except Failure as error:
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
        """Its folder; removed by `down`."""
        return folder_of(self.name)

    @property
    def config_file(self) -> Path:
        """The stack file with what encrypts its secrets."""
        return self.folder / f"Pulumi.{self.name}.yaml"

    @property
    def local_backend(self) -> Path | None:
        """The folder that Pulumi keeps state in, None when it is kept elsewhere."""
        return backend.folder(self.env["PULUMI_BACKEND_URL"])

    @property
    def umask(self) -> int:
        """That of Pulumi, which writes what everybody may read; -1 in somebody's own folder, where groups may work together."""
        return 0o077 if self.local_backend in (None, own_backend()) else -1

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
            # One after the other, as what is made first serves all stacks: the passphrase.
            with lock.in_turn(state_home() / "init.lock"):
                stack._prepare() if stack.exists() else stack._init()
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
        _tidy()
        if self.local_backend:
            if not self.local_backend.is_dir():
                return False
            _mend(self.local_backend)
            if self.local_backend == own_backend():
                # Half a second less than asking Pulumi, which is called for every command.
                files = (_stacks_in(self.local_backend) / f"{self.name}.json{end}" for end in ("", ".gz"))
                return any(map(Path.is_file, files))
        ran = self.run("stack", "ls", "--json")
        if ran.returncode:
            raise backend.unreachable(self.env["PULUMI_BACKEND_URL"], ran.stderr)
        return any(entry["name"].rsplit("/", 1)[-1] == self.name for entry in json.loads(ran.stdout))

    def _prepare(self) -> None:
        """Write the stack file for Pulumi, with what encrypts the secrets of the state that is there."""
        secret_folder(self.folder)
        provider = (
            json.loads(self.pulumi("stack", "export", "--stack", self.name))["deployment"].get("secrets_providers")
            or {}
        )
        if provider.get("type") == "passphrase":
            passphrase.need(self.env, self.name, made_by="whoever made the stack has it")
        self._write_config(_encryption(provider))

    def _init(self) -> None:
        """Make the stack. `stack init` writes what encrypts it into the stack file of the folder it runs in, so it gets one of its own."""
        own = read_stack_file(self.name).encryption
        provider = own.get("secretsprovider", "default")
        if provider == "passphrase" or (
            provider == "default" and not backend.keeps_secrets(self.env["PULUMI_BACKEND_URL"])
        ):
            passphrase.make(self.env, self.name, may_be_new=self.local_backend == own_backend())
        scratch = self.folder / "init"
        shutil.rmtree(scratch, ignore_errors=True)
        secret_folder(scratch)
        (scratch / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
        made = scratch / f"Pulumi.{self.name}.yaml"
        made.write_text(yaml.safe_dump(own))
        self.pulumi("stack", "init", self.name, "--no-select", "--secrets-provider", provider, cwd=scratch)
        self._write_config(yaml.safe_load(made.read_text()) or {})
        shutil.rmtree(scratch)

    def _write_config(self, encryption: Mapping[str, str]) -> None:
        """The repository's stack file, with what it lacks of encryption; where it has another provider or its own salt, that wins.

        While that cannot be read, the one of before, or none, has to do: what is there can be looked at, and taken down.
        """
        try:
            file = read_stack_file(self.name)
        except StackFileError:
            if not self.config_file.exists():
                secret_file(self.config_file, yaml.safe_dump(dict(encryption)))
            return
        own = file.encryption
        moved = own.get("secretsprovider", encryption.get("secretsprovider")) != encryption.get("secretsprovider")
        further = (
            {} if moved or any(key in own for key in SALT) else {k: v for k, v in encryption.items() if k not in own}
        )
        secret_file(self.config_file, f"{file.text}\n{yaml.safe_dump(further)}" if further else file.text)

    def _try_secrets(self) -> None:
        """Encrypt something as the stack does, in a file of its own: a wrong passphrase or a key we may not use is told now.

        So is a value of the stack file that was encrypted with another one: the engine says so of none by name.
        """
        document = yaml.safe_load(self.config_file.read_text()) or {}
        own = yaml.safe_dump({key: document[key] for key in ("secretsprovider", *SALT) if key in document})
        with lent_file(self.folder, "try.yaml", own) as file:
            self.pulumi("config", "set", "try", "it", "--secret", "--stack", self.name, "--config-file", str(file))
        encrypted = read_stack_file(self.name).encrypted()
        if encrypted and self.run(*self.on_stack("config", "--json", "--show-secrets")).returncode:
            raise OpsError(
                f"Pulumi.{self.name}.yaml: what encrypts stack {self.name} opens not all of {', '.join(encrypted)}. Encrypt them again: "
                f"`pulumi config set --secret --path … --stack {self.name} --config-file Pulumi.{self.name}.yaml`"
            )

    def settings(self) -> dict[str, Any]:
        """The tables of the stack file, unchecked: `up` and a preview check them first. None while it cannot be read."""
        try:
            file = read_stack_file(self.name)
        except StackFileError:
            return {}
        return {} if file.problems else dict(file.tables)

    def pulumi(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run the Pulumi command line; what it printed.

        Raises:
            OpsError: it failed; its reason is in the message.
        """
        ran = self.run(*arguments, cwd=cwd)
        if ran.returncode:
            why = reason(ran.stderr if ran.stderr.strip() else ran.stdout)
            known = passphrase.refused(self.env, self.name, why) or lock.held(self.name, ran.stderr)
            raise known or OpsError(f"`pulumi {' '.join(arguments[:2])}` failed: {why}")
        return ran.stdout

    def run(
        self, *arguments: str, cwd: Path | None = None, log: EventLog | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the Pulumi command line in the project, or in folder `cwd`: how it ended and what it printed. `log` gets the engine's events.

        Raises:
            OpsError: there is no Pulumi.
        """
        command = ["pulumi", *arguments, "--non-interactive", "--color", "never"]
        command += log.words if log else []
        try:
            return subprocess.run(
                command,
                cwd=cwd or ROOT,
                env={**self.env, **event_log.ENV} if log else self.env,
                text=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                check=False,
                pass_fds=log.inherited if log else (),
                umask=self.umask,
            )
        except FileNotFoundError:
            raise missing_pulumi() from None

    def on_stack(self, *words: str) -> list[str]:
        """The words of a command, such as up, preview or destroy, with those that have it act on this stack."""
        return [*words[:1], "--stack", self.name, "--config-file", str(self.config_file), *words[1:]]

    def deployment(self) -> dict[str, Any]:
        """The stack's state with its secrets in the clear; `ops.state` reads it."""
        return json.loads(self.pulumi("stack", "export", "--stack", self.name, "--show-secrets"))["deployment"]

    def act(self, action: Action[Any, Any], request: Any, tell: Callable[[str], None] | None = None) -> Any:
        """Run an action as the program does, in a process of its own; its result as JSON.

        Args:
            action: what is to be done.
            request: what it reads.
            tell: gets each line of its progress.

        Raises:
            ActionFailed: it failed; the message is what it said last.
        """
        said: list[str] = []
        with (
            tempfile.TemporaryFile("w+") as answer,
            subprocess.Popen(
                [sys.executable, "-m", "actions", action.name],
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
                child.stdin.write(json.dumps(request))
            for line in child.stderr:
                said.append(line)
                if tell:
                    tell(line.rstrip())
            if child.wait():
                raise ActionFailed("".join(said))
            answer.seek(0)
            return json.load(answer)


def _tidy() -> None:
    """See that nobody else can read this user's state, and that no secret lies about there."""
    for folder in (state_home() / "stacks").glob("*"):
        tidy(folder)
    keep_private(state_home())


def _stacks_in(backend: Path) -> Path:
    """Where a folder has this project's states, a file each; see `pkg/backend/diy/store.go` in Pulumi's sources."""
    return backend / ".pulumi/stacks" / PROJECT


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

    With the last stack goes all of it, the passphrase too, but for claims to Multipass instances. A back end that somebody named is left
    alone.
    """
    backend = own_backend()
    if ours := stack.local_backend == backend:
        for traces in (f"backups/{PROJECT}", f"history/{PROJECT}", f"locks/organization/{PROJECT}"):
            shutil.rmtree(backend / ".pulumi" / traces / stack.name, ignore_errors=True)
        for path in _stacks_in(backend).glob(f"{stack.name}.json*"):
            path.unlink()
    # With the lock in it: from here on the stack may be another command's.
    shutil.rmtree(stack.folder, ignore_errors=True)
    if not ours:
        return
    others = state_home() / "stacks"
    if not any(others.glob("*")) and not json.loads(stack.pulumi("stack", "ls", "--all", "--json")):
        _remove_all_but_claims(state_home())


def _remove_all_but_claims(home: Path) -> None:
    """What the Multipass driver has noted in there may be of stacks that are kept elsewhere; with no claims left its folder goes, too."""
    driver = home / "multipass"
    if not any(driver.glob("claims/*")):
        shutil.rmtree(home)
        return
    for place in home.iterdir():
        if place.is_dir() and place != driver:
            shutil.rmtree(place)
        elif place != driver:
            place.unlink()


def run(arguments: Sequence[str]) -> int:
    """Run any command with the environment Pulumi gets."""
    try:
        return subprocess.run(list(arguments), cwd=ROOT, env=environment(), check=False).returncode
    except FileNotFoundError:
        raise OpsError(f"{arguments[0]}: there is no such command") from None
