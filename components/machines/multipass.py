"""The driver for Canonical's Multipass: machines through its command line, on Linux, macOS and Windows' Linux subsystem alike.

Read in canonical/multipass at v1.16.3; what shaped this module:

- `launch` returns when cloud-init has ended, and gives up waiting (exit code 5, or 2 from the daemon's own limit) while the instance
  lives on. So it runs beside us, and an instance counts as soon as it runs, has an address and lets us in. Interrupted, it goes on in the
  daemon: an instance that is "being prepared" is in no list yet, but its settings say so.
- A stopped daemon is exit code 2 with a text, not 3. So no exit code alone means "there is no such instance": the list does.
- `ipv4[0]` is the management address, `N/A` or missing for a while; addresses of the machine's own bridges follow.
- A deleted instance keeps its name until it is purged; `purge` would purge everyone's, `delete --purge` does one.
- cpus, memory and disk change only while stopped, the disk only upwards. Sizes are shown to one decimal of a GiB (or MiB): a smaller
  change is not seen.
- Folders are mounted once the machine runs, and can be written to: Multipass has no read-only mounts.

Whose an instance is: Multipass has no labels, so it is kept in two places. `/etc/istio-vms/owner` in the machine, written by cloud-init
before sshd knows any key, so that whoever can look at all sees it: decisive wherever we can look. And a claim on the operator's machine,
written before `launch`, decisive where we cannot: stopped, suspended, deleted, or still booting. An instance with neither is refused
as it stands; nothing is started or purged to find out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import yaml

from components.machines.cloud_init import cloud_config
from components.machines.driver import DriverError, MachineSpec, MachineState, Mount, Progress

OWNER_FILE = "/etc/istio-vms/owner"
HOST_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
SSH_PORT = 22
ANSWER_SECONDS = 120
"""How long a command that does not wait for a machine may take."""
EXEC_SECONDS = 30

DAEMON_UNAVAILABLE, TIMED_OUT = 3, 5
NO_DAEMON = "cannot connect to the multipass socket"

RUNNING, STOPPED, SUSPENDED, DELETED = "Running", "Stopped", "Suspended", "Deleted"
DELAYED_SHUTDOWN, UNAVAILABLE = "Delayed Shutdown", "Unavailable"

_UNITS_MIB = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}


class _NoAnswerError(DriverError):
    """The command line did not end in time."""


@dataclass(frozen=True)
class Options:
    """The driver's own table in a machine's settings.

    Attributes:
        networks: further networks, each as `--network` takes it: `en0`, or `name=en0,mode=manual,mac=…`.
        timeout_seconds: for one machine to come up, its image's download included.
        state_dir: where claims and locks are kept.
    """

    networks: tuple[str, ...] = ()
    timeout_seconds: float = 900
    state_dir: Path = Path("~/.local/state/istio-vms/multipass")

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Options:
        """Read the table.

        Raises:
            DriverError: a key is unknown.
        """
        unknown = sorted(set(table) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise DriverError(f"multipass options: unknown: {', '.join(unknown)}; known are {known}")
        return cls(
            networks=tuple(table.get("networks", ())),
            timeout_seconds=float(table.get("timeout_seconds", cls.timeout_seconds)),
            state_dir=Path(table.get("state_dir", cls.state_dir)).expanduser(),
        )


@dataclass(frozen=True)
class Instance:
    """One line of `multipass list`. `address` is empty while there is none."""

    name: str
    state: str
    address: str


@dataclass(frozen=True)
class Identity:
    """What a machine says of itself through `multipass exec`; empty where it has no such file."""

    owner: str
    host_key: str


@dataclass(frozen=True)
class Claim:
    """That we are about to make, or have made, an instance. `host_key` is empty until it was seen."""

    owner: str
    user: str
    host_key: str = ""


class MultipassDriver:
    """Machines as Multipass instances."""

    def __init__(self, poll_seconds: float = 0.5) -> None:
        """Ask for a state that is awaited every `poll_seconds`."""
        self._poll_seconds = poll_seconds

    def ensure(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Make, adopt, start or resize an instance; see `Driver.ensure`."""
        options = Options.parse(spec.options)
        _check_words(spec.name, spec.image, *options.networks)
        with _lock(options.state_dir, spec.name):
            return _Ensure(spec, options, progress, self._poll_seconds).run()

    def update(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """As `ensure`, which never looks at user-data of a machine that is there."""
        return self.ensure(spec, progress)

    def delete(self, name: str, owner: str, options: Mapping[str, Any], progress: Progress) -> None:
        """Delete and purge an instance; see `Driver.delete`."""
        parsed = Options.parse(options)
        _check_words(name)
        claims = _Claims(parsed.state_dir)
        with _lock(parsed.state_dir, name):
            instance = self._settled(name, owner, parsed, claims, progress)
            if instance is not None:
                _see_that_ours(instance, owner, claims, identify(name) if instance.state == RUNNING else None)
                progress(f"{name}: deleting")
                ran = _multipass("delete", "--purge", name)
                if ran.returncode and find(name) is not None:
                    raise _failed(f"{name} cannot be deleted", ran)
            claims.drop(name)

    def list(self, owner: str, options: Mapping[str, Any]) -> list[MachineState]:
        """The instances we have a claim to; see `Driver.list`. One call of the command line, none into a machine."""
        claims = _Claims(Options.parse(options).state_dir)
        found = [(instance, claims.get(instance.name)) for instance in instances()]
        return [_state(i, claim.user, claim.host_key) for i, claim in found if claim and claim.owner == owner]

    def _settled(self, name: str, owner: str, options: Options, claims: _Claims, progress: Progress) -> Instance | None:
        """The instance; one of ours that is still being prepared is waited for, as it would appear right after."""
        end = time.monotonic() + options.timeout_seconds
        told = False
        while True:
            claim = claims.get(name)
            # Asked in this order, it cannot slip through: what is no longer being prepared is listed.
            preparing = claim is not None and claim.owner == owner and being_prepared(name)
            instance = find(name)
            if instance or not preparing:
                return instance
            if time.monotonic() > end:
                raise DriverError(f"{name} is still being prepared by Multipass; run this again when that has ended")
            if not told:
                progress(f"{name}: is still being prepared; waiting for that, to delete it")
                told = True
            time.sleep(self._poll_seconds)


class _Ensure:
    """One run of `ensure`: looks at the instance, does the next thing, and looks again, until it is as it should be."""

    def __init__(self, spec: MachineSpec, options: Options, progress: Progress, poll_seconds: float) -> None:
        self._spec = spec
        self._name = spec.name
        self._options = options
        self._poll_seconds = poll_seconds
        self._claims = _Claims(options.state_dir)
        self._launch: _Launch | None = None
        self._end = time.monotonic() + options.timeout_seconds
        self._progress = progress
        self._told = ""

    def run(self) -> MachineState:
        """The machine as it is in the end."""
        try:
            while (state := self._step(find(self._name))) is None:
                if time.monotonic() > self._end:
                    raise DriverError(
                        f"{self._name} was not up after {self._options.timeout_seconds:g} s ({self._told}). Run this again to go on "
                        f"waiting; `multipass info {self._name}` and `multipass shell {self._name}` show what it is doing"
                    )
                time.sleep(self._poll_seconds)
            return state
        finally:
            if self._launch:
                self._launch.leave()

    def _step(self, instance: Instance | None) -> MachineState | None:
        if instance is None:
            return self._make()
        if instance.state == RUNNING:
            return self._use(instance)
        if instance.state == DELETED:
            _see_that_ours(instance, self._spec.owner, self._claims, None)
            self._tell("was deleted but keeps its name: purging it")
            _check(_multipass("delete", "--purge", self._name), f"{self._name} cannot be purged")
        elif instance.state in (STOPPED, SUSPENDED, DELAYED_SHUTDOWN):
            self._start(instance)
        elif instance.state == UNAVAILABLE:
            raise DriverError(
                f"{self._name} is in an availability zone that is off: see `multipass zones`, `multipass enable-zones`"
            )
        else:
            self._tell(f"waiting; its state is {instance.state}")
        return None

    def _make(self) -> None:
        """There is no such instance: launch it, unless that is under way."""
        if self._launch is None:
            claim = self._claims.get(self._name)
            if claim and claim.owner == self._spec.owner and being_prepared(self._name):
                self._tell("waiting; an earlier launch is still preparing it")
                return
            self._claims.put(self._name, Claim(self._spec.owner, self._spec.user))
            self._tell(f"launching {self._spec.image or 'the default image'}")
            self._launch = _Launch(self._spec, self._options)
            return
        ended = self._launch.ended()
        if ended is None or ended.returncode == 0:
            self._tell("waiting for the image")
        elif ended.returncode == TIMED_OUT or being_prepared(self._name):
            self._tell(f"launch has given up ({ended.stderr.strip()}); waiting for what it left")
            self._launch = None
        elif find(self._name) is None:
            self._claims.drop(self._name)
            raise _failed(f"{self._name} cannot be launched", ended)

    def _start(self, instance: Instance) -> None:
        if self._launch and self._launch.ended() is None:
            self._tell("waiting; it is about to start")
            return
        _see_that_ours(instance, self._spec.owner, self._claims, None)
        if instance.state == STOPPED:
            self._resize()
        self._tell("starting")
        left = max(1, round(self._end - time.monotonic()))
        ran = _multipass("start", self._name, "--timeout", str(left), seconds=left + ANSWER_SECONDS)
        after = find(self._name)
        if ran.returncode and (after is None or after.state in (STOPPED, SUSPENDED)):
            raise _failed(f"{self._name} cannot be started", ran)

    def _use(self, instance: Instance) -> MachineState | None:
        """The instance runs: see whose it is, and whether it is as it should be."""
        if not instance.address:
            self._tell("waiting for an address")
            return None
        identity = identify(self._name)
        if identity is None:
            self._tell("waiting for sshd")
            return None
        _see_that_ours(instance, self._spec.owner, self._claims, identity)
        if not identity.host_key:
            self._tell("waiting for a host key")
            return None
        self._claims.put(self._name, Claim(self._spec.owner, self._spec.user, identity.host_key))
        if self._differences():
            self._tell("stopping, to resize it")
            _check(_multipass("stop", self._name), f"{self._name} cannot be stopped to resize it")
            return None
        for mount in self._spec.mounts:
            self._mount(mount)
        return _state(instance, self._spec.user, identity.host_key)

    def _differences(self) -> dict[str, str]:
        """Settings to change, to their new values.

        Raises:
            DriverError: the disk would have to shrink.
        """
        changes: dict[str, str] = {}
        if setting(self._name, "cpus") != str(self._spec.cpus):
            changes["cpus"] = str(self._spec.cpus)
        if _size_differs(setting(self._name, "memory"), self._spec.memory_mib):
            changes["memory"] = f"{self._spec.memory_mib}M"
        disk, wanted = setting(self._name, "disk"), self._spec.disk_gib * 1024
        if _size_differs(disk, wanted):
            if _mib(disk)[0] > wanted:
                raise DriverError(
                    f"{self._name} has a disk of {disk} and a disk cannot shrink to {self._spec.disk_gib}GiB: set its disk to at least "
                    "what it has, or have the machine made anew"
                )
            changes["disk"] = f"{self._spec.disk_gib}G"
        return changes

    def _resize(self) -> None:
        for key, value in self._differences().items():
            self._tell(f"setting {key} to {value}")
            _check(_multipass("set", f"local.{self._name}.{key}={value}"), f"{self._name} cannot be resized")

    def _mount(self, mount: Mount) -> None:
        source = str(Path(mount.source).expanduser().absolute())
        there = mounts(self._name).get(mount.target)
        if there == source:
            return
        if there is not None:
            _check(_multipass("umount", f"{self._name}:{mount.target}"), f"{self._name}: cannot unmount {mount.target}")
        self._tell(f"mounting {source}")
        ran = _multipass(
            "mount", source, f"{self._name}:{mount.target}", seconds=max(1.0, self._end - time.monotonic())
        )
        if ran.returncode and mounts(self._name).get(mount.target) != source:
            raise _failed(
                f"{self._name}: cannot mount {source} (as a snap, Multipass sees folders in the home directory only, and no hidden ones)",
                ran,
            )

    def _tell(self, what: str) -> None:
        """Says what is being done, once."""
        if what != self._told:
            self._told = what
            self._progress(f"{self._name}: {what}")


class _Launch:
    """`multipass launch`, running beside us."""

    def __init__(self, spec: MachineSpec, options: Options) -> None:
        command = ["multipass", "launch", "--name", spec.name, "--cpus", str(spec.cpus)]
        command += ["--memory", f"{spec.memory_mib}M", "--disk", f"{spec.disk_gib}G", "--cloud-init", "-"]
        command += ["--timeout", str(max(1, round(options.timeout_seconds)))]
        command += [word for network in options.networks for word in ("--network", network)]
        command += [spec.image] if spec.image else []
        self._command = command
        self._stderr = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115 - it lives as long as the process
        user_data = with_owner(spec.user_data, spec.owner)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._stderr
            )
        except FileNotFoundError:
            raise _not_installed() from None
        stdin = cast("IO[bytes]", self._process.stdin)
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(user_data.encode())

    def ended(self) -> subprocess.CompletedProcess[str] | None:
        """How it ended, or None while it runs.

        Raises:
            DriverError: there is no daemon.
        """
        code = self._process.poll()
        if code is None:
            return None
        self._stderr.seek(0)
        ran = subprocess.CompletedProcess(self._command, code, "", self._stderr.read().decode(errors="replace"))
        return _answered(ran)

    def leave(self) -> None:
        """Stop waiting for it; what it has begun goes on in the daemon."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._stderr.close()


class _Claims:
    """One small file per machine name: whose the instance of that name is."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "claims"

    def get(self, name: str) -> Claim | None:
        try:
            return Claim(**json.loads(self._file(name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def put(self, name: str, claim: Claim) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self._file(name).with_suffix(".new")
        new.write_text(json.dumps(dataclasses.asdict(claim)), encoding="utf-8")
        new.replace(self._file(name))

    def drop(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def instances() -> list[Instance]:
    """All instances, everyone's.

    Raises:
        DriverError: Multipass cannot be asked.
    """
    ran = _check(_multipass("list", "--format", "json"), "the instances cannot be listed")
    rows: list[dict[str, Any]] = json.loads(ran.stdout)["list"]
    return [Instance(row["name"], row["state"], _address(row.get("ipv4", []))) for row in rows]


def find(name: str) -> Instance | None:
    """The instance of that name, deleted ones included, or None."""
    return next((instance for instance in instances() if instance.name == name), None)


def identify(name: str) -> Identity | None:
    """What a running machine says of itself, over Multipass's own channel; None while it lets nobody in."""
    try:
        ran = _multipass(
            "exec", name, "--no-map-working-directory", "--", "cat", OWNER_FILE, HOST_KEY_FILE, seconds=EXEC_SECONDS
        )
    except _NoAnswerError:
        return None
    lines = ran.stdout.splitlines()
    if ran.returncode and not lines and "No such file" not in ran.stderr:
        return None
    keys = [" ".join(line.split()[:2]) for line in lines if re.match(r"ssh-ed25519 [A-Za-z0-9+/=]+", line)]
    owners = [line for line in lines if not line.startswith("ssh-")]
    return Identity(owner=owners[0] if owners else "", host_key=keys[0] if keys else "")


def being_prepared(name: str) -> bool:
    """Whether a launch has begun whose instance is in no list yet: asking for a snapshot of it is answered with that."""
    ran = _multipass("get", f"local.{name}.none.name")
    return ran.returncode != 0 and "instance is being prepared" in ran.stderr


def setting(name: str, key: str) -> str:
    """A setting of an instance: `cpus` as a number, `memory` and `disk` as `2.0GiB`."""
    return _check(_multipass("get", f"local.{name}.{key}"), f"the {key} of {name} cannot be read").stdout.strip()


def mounts(name: str) -> dict[str, str]:
    """The folders mounted in an instance: target to source."""
    ran = _check(_multipass("info", name, "--format", "json"), f"the mounts of {name} cannot be read")
    table: dict[str, dict[str, Any]] = json.loads(ran.stdout)["info"][name]["mounts"]
    return {target: mount["source_path"] for target, mount in table.items()}


def with_owner(user_data: str, owner: str) -> str:
    """The same user-data, which writes `OWNER_FILE` first.

    Raises:
        DriverError: it is not in the cloud-config format, which is all that Multipass takes.
    """
    try:
        document = yaml.safe_load(user_data)
    except yaml.YAMLError as error:
        raise DriverError(f"the user-data is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise DriverError("the user-data is no cloud-config document; Multipass takes nothing else")
    table = cast("dict[str, Any]", document)
    mark = {"path": OWNER_FILE, "permissions": "0644", "content": f"{owner}\n"}
    return cloud_config({**table, "write_files": [mark, *table.get("write_files", [])]})


def _see_that_ours(instance: Instance, owner: str, claims: _Claims, identity: Identity | None) -> None:
    """Whose an instance is; `identity` is what it says itself, None where it cannot be asked.

    Raises:
        DriverError: it is not ours, or nothing says that it is.
    """
    name, claim = instance.name, claims.get(instance.name)
    rid = f"`multipass delete --purge {name}` removes it"
    if identity is not None and identity.owner != owner:
        if claim and claim.owner == owner:
            claims.drop(name)  # what it was for is gone
        whose = (
            f"belongs to {identity.owner!r}"
            if identity.owner
            else f"has no {OWNER_FILE}, which cloud-init writes in ours"
        )
        raise DriverError(
            f"there is an instance {name} that {whose}, not to {owner!r}; it is left alone. Choose another name, or: {rid}"
        )
    if identity is None and (claim is None or claim.owner != owner):
        look = {
            DELETED: f"`multipass recover {name}` and `multipass start {name}`",
            RUNNING: f"a look at why `multipass exec {name} true` fails",
        }.get(instance.state, f"`multipass start {name}`")
        raise DriverError(
            f"there is an instance {name}, {instance.state.lower()}, and nothing here says that it belongs to {owner!r}; it is left alone. "
            f"If it is ours, {look} lets it say so itself; then run this again. If it is nobody's, {rid}"
        )


def _state(instance: Instance, user: str, host_key: str) -> MachineState:
    return MachineState(instance.name, instance.address, SSH_PORT, user, host_key, instance.state.lower())


def _address(ipv4: list[str]) -> str:
    """The management address is the first; `N/A` stands for none."""
    return ipv4[0] if ipv4 and re.fullmatch(r"[0-9.]+", ipv4[0]) else ""


def _mib(shown: str) -> tuple[float, float]:
    """A size as Multipass shows it, and how much rounding may have taken or added; both in MiB."""
    match = re.fullmatch(r"([0-9.]+)([KMG]iB)", shown)
    if not match:
        raise DriverError(
            f"Multipass shows a size as {shown!r}, which this driver does not know; is it newer than 1.16?"
        )
    unit = _UNITS_MIB[match[2]]
    return float(match[1]) * unit, 0.0501 * unit


def _size_differs(shown: str, wanted_mib: int) -> bool:
    size, rounding = _mib(shown)
    return abs(size - wanted_mib) > rounding


def _check_words(name: str, *others: str) -> None:
    """See that a name is one for Multipass (`valid_hostname` of its utils.cpp) and that nothing can be taken for an option.

    Raises:
        DriverError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?", name):
        raise DriverError(f"{name!r} is no instance name: it begins with a letter, and has letters, digits and - only")
    for word in others:
        if word.startswith("-"):
            raise DriverError(f"{name}: {word!r} is neither an image nor a network")


@contextlib.contextmanager
def _lock(state_dir: Path, name: str) -> Generator[None]:
    """One run at a time per machine name; the kernel lets go of the lock of a run that was killed."""
    folder = state_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _multipass(*words: str, seconds: float = ANSWER_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run the command line.

    Raises:
        DriverError: it is not installed, has no daemon, or does not answer.
    """
    try:
        ran = subprocess.run(
            ["multipass", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except FileNotFoundError:
        raise _not_installed() from None
    except subprocess.TimeoutExpired:
        said = f"`multipass {words[0]}` gave no answer for {seconds:g} s"
        raise _NoAnswerError(f"{said}. {_how_to('restart')}, then run this again") from None
    return _answered(ran)


def _answered(ran: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The same, unless it was not the daemon that answered.

    Raises:
        DriverError: there is no daemon.
    """
    if ran.returncode == DAEMON_UNAVAILABLE or (ran.returncode and NO_DAEMON in ran.stderr):
        raise DriverError(
            f"the Multipass daemon does not run or cannot be reached. {_how_to('start')}, then run this again"
        )
    return ran


def _how_to(verb: str) -> str:
    """How the daemon is started or restarted, as Multipass's own how-to guides do it."""
    if platform.system() == "Darwin":
        service = "/Library/LaunchDaemons/com.canonical.multipassd.plist"
        unload = f"sudo launchctl unload {service} && " if verb == "restart" else ""
        return f"To {verb} it: `{unload}sudo launchctl load {service}`"
    return f"To {verb} it: `sudo snap {verb} multipass`"


def _not_installed() -> DriverError:
    return DriverError(
        "there is no `multipass` on PATH. Install it (`sudo snap install multipass`; on macOS `brew install --cask multipass`), or "
        "choose another driver for the machines: nspawn or existing"
    )


def _check(ran: subprocess.CompletedProcess[str], what: str) -> subprocess.CompletedProcess[str]:
    if ran.returncode:
        raise _failed(what, ran)
    return ran


def _failed(what: str, ran: subprocess.CompletedProcess[str]) -> DriverError:
    said = "\n".join(line for line in ran.stderr.splitlines() if line.strip())[-2000:]
    return DriverError(f"{what}: multipass {ran.args[1]} ended with exit code {ran.returncode}:\n{said}")
