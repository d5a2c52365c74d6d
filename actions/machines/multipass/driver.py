"""The machine driver contract on Multipass: looks at an instance, does the next thing, and looks again, until it is as it should be."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from actions.machines.driver import MachineSpec, MachineState, Mount, Snapshot
from actions.machines.multipass import cli, snapshots
from actions.machines.multipass.cli import (
    DELAYED_SHUTDOWN,
    DELETED,
    RUNNING,
    STOPPED,
    SUSPENDED,
    TIMED_OUT,
    UNAVAILABLE,
    UNKNOWN,
    Instance,
)
from actions.machines.multipass.launch import Launch
from actions.machines.multipass.options import Options
from actions.machines.multipass.ownership import Claim, Claims, made_from, see_that_ours
from actions.protocol import Failure, Progress

SSH_PORT = 22
BEING_PREPARED = "being prepared"
"""The state of one that Multipass does not list yet."""
UNKNOWN_SECONDS = 90
"""How long a state may be `Unknown`: it is for a moment while the daemon starts, and for good where an instance did not answer in time."""


class MultipassDriver:
    """Machines as Multipass instances."""

    def __init__(self, poll_seconds: float = 0.5) -> None:
        """Ask for a state that is awaited every `poll_seconds`."""
        self._poll_seconds = poll_seconds

    def ensure(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Make, adopt, start or resize an instance; see `Driver.ensure`."""
        return self._bring_up(spec, progress, as_it_is=False)

    def update(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Start or resize an instance as it is; see `Driver.update`."""
        return self._bring_up(spec, progress, as_it_is=True)

    def delete(self, name: str, owner: str, options: Mapping[str, Any], progress: Progress) -> None:
        """Delete and purge an instance, its snapshots included; see `Driver.delete`."""
        parsed = Options.parse(options)
        cli.check_words(name)
        cli.check_host()
        claims = Claims(parsed)
        with _lock(parsed.state_dir, name):
            instance = self._settled(name, owner, parsed, claims, progress)
            if instance is not None:
                see_that_ours(instance, owner, claims, cli.identify(name) if instance.state == RUNNING else None)
                progress(f"{name}: deleting")
                ran = cli.run("delete", "--purge", name)
                if ran.returncode and cli.find(name) is not None:
                    raise cli.failed(f"{name} cannot be deleted", ran)
            claims.drop(name)

    def list(self, owner: str, options: Mapping[str, Any]) -> list[MachineState]:
        """The instances we have a claim to; see `Driver.list`. No call goes into a machine."""
        cli.check_host()
        claims = Claims(Options.parse(options))
        ours = claims.of(owner)
        found = {instance.name: instance for instance in cli.instances() if instance.name in ours}
        for name in ours.keys() - found.keys():
            if cli.being_prepared(name):
                found[name] = Instance(name, BEING_PREPARED, "")
        return [_state(found[name], ours[name].user, ours[name].host_key) for name in sorted(found)]

    def snapshot(self, spec: MachineSpec, progress: Progress) -> Snapshot:
        """Take a snapshot of an instance, which is stopped for it and started again; see `TakesSnapshots.snapshot`."""
        options = Options.parse(spec.options)
        cli.check_words(spec.name)
        cli.check_host()
        with _lock(options.state_dir, spec.name):
            return _Ensure(spec, options, progress, self._poll_seconds, as_it_is=True).snapshot()

    def _bring_up(self, spec: MachineSpec, progress: Progress, as_it_is: bool) -> MachineState:
        options = Options.parse(spec.options)
        cli.check_words(spec.name, spec.image, *options.networks)
        cli.check_host()
        with _lock(options.state_dir, spec.name):
            return _Ensure(spec, options, progress, self._poll_seconds, as_it_is).run()

    def _settled(self, name: str, owner: str, options: Options, claims: Claims, progress: Progress) -> Instance | None:
        """The instance; one of ours that is still being prepared is waited for, as it would appear right after."""
        end = time.monotonic() + options.timeout_seconds
        told = False
        while True:
            claim = claims.get(name)
            # Asked in this order, it cannot slip through: what is no longer being prepared is listed.
            preparing = claim is not None and claim.owner == owner and cli.being_prepared(name)
            instance = cli.find(name)
            if instance or not preparing:
                return instance
            if time.monotonic() > end:
                raise Failure(f"{name} is still being prepared by Multipass; run this again when that has ended")
            if not told:
                progress(f"{name}: is still being prepared; waiting for that, to delete it")
                told = True
            time.sleep(self._poll_seconds)


class _Ensure:
    """One run of `ensure` or `update`."""

    def __init__(
        self, spec: MachineSpec, options: Options, progress: Progress, poll_seconds: float, as_it_is: bool
    ) -> None:
        self._spec = spec
        self._name = spec.name
        self._options = options
        self._poll_seconds = poll_seconds
        self._as_it_is = as_it_is
        self._claims = Claims(options)
        self._launch: Launch | None = None
        self._end = time.monotonic() + options.timeout_seconds
        self._unknown_since: float | None = None
        self._progress = progress
        self._told = ""

    def run(self) -> MachineState:
        """The machine as it is in the end."""
        try:
            while (state := self._step(cli.find(self._name))) is None:
                if time.monotonic() > self._end:
                    raise Failure(
                        f"{self._name} was not up after {self._options.timeout_seconds:g} s ({self._told}). Run this again to go on "
                        f"waiting; `multipass info {self._name}` and `multipass shell {self._name}` show what it is doing"
                    )
                time.sleep(self._poll_seconds)
            return state
        finally:
            if self._launch:
                self._launch.leave()

    def snapshot(self) -> Snapshot:
        """A snapshot of the machine, which is left as it was found: running or stopped."""
        instance = cli.find(self._name)
        if instance is None or instance.state not in (RUNNING, STOPPED):
            seen = f"is {instance.state.lower()}" if instance else "is not there"
            raise Failure(f"{self._name} {seen}: a snapshot is taken of a running or stopped machine only")
        runs = instance.state == RUNNING
        see_that_ours(instance, self._spec.owner, self._claims, cli.identify(self._name) if runs else None)
        if runs:
            self._stop("stopping, for a snapshot")
        try:
            made = snapshots.take(self._name, "by-hand", "make snapshot")
        finally:
            if runs:
                self.run()
        return Snapshot(self._name, f"{self._name}.{made}", f"multipass restore {self._name}.{made}")

    def _step(self, instance: Instance | None) -> MachineState | None:
        if instance is None:
            return self._make()
        if instance.state == RUNNING:
            return self._use(instance)
        if instance.state == UNKNOWN:
            self._hope(instance)
            return None
        self._unknown_since = None
        if instance.state == DELETED:
            self._recover(instance)
        elif instance.state in (STOPPED, SUSPENDED, DELAYED_SHUTDOWN):
            self._start(instance)
        elif instance.state == UNAVAILABLE:
            raise Failure(
                f"{self._name} is in an availability zone that is off: see `multipass zones`, `multipass enable-zones`"
            )
        else:
            self._tell(f"waiting; its state is {instance.state}")
        return None

    def _make(self) -> None:
        """There is no such instance: launch it, unless that is under way."""
        if self._launch is None:
            if self._claim() and cli.being_prepared(self._name):
                self._tell("waiting; an earlier launch is still preparing it")
                return
            self._claims.put(self._name, Claim(self._spec.owner, self._spec.user, made_from=made_from(self._spec)))
            self._tell(f"launching {self._spec.image or 'the default image'}")
            self._launch = Launch(self._spec, self._options)
            return
        ended = self._launch.ended()
        if ended is None or ended.returncode == 0:
            self._tell("waiting for the image")
        elif ended.returncode == TIMED_OUT or cli.being_prepared(self._name):
            self._tell(f"launch has given up ({ended.stderr.strip()}); waiting for what it left")
            self._launch = None
        elif cli.find(self._name) is None:
            self._claims.drop(self._name)
            raise cli.failed(f"{self._name} cannot be launched", ended)

    def _hope(self, instance: Instance) -> None:
        """Its state is not known: that passes by itself, or not at all. Powering it off may cost data, so that is for a person to do."""
        see_that_ours(instance, self._spec.owner, self._claims, None)
        now = time.monotonic()
        self._unknown_since = self._unknown_since or now
        self._tell("waiting; its state is Unknown")
        if now - self._unknown_since > UNKNOWN_SECONDS and (self._launch is None or self._launch.ended()):
            raise Failure(
                f"{self._name} has been in state Unknown for {UNKNOWN_SECONDS:g} s: Multipass has lost touch with it, as after the host "
                f"slept or a start that took too long. `multipass stop --force {self._name}` powers it off; then run this again, which "
                "starts it"
            )

    def _recover(self, instance: Instance) -> None:
        """It is ours and was deleted, which keeps its disk and its name. Made from something else, it would only be in the way."""
        see_that_ours(instance, self._spec.owner, self._claims, None)
        if self._is_what_was_asked():
            self._tell("was deleted but not purged: recovering it")
            cli.check(cli.run("recover", self._name), f"{self._name} cannot be recovered")
        else:
            self._tell("was deleted, made from other settings, and keeps its name: purging it")
            cli.check(cli.run("delete", "--purge", self._name), f"{self._name} cannot be purged")

    def _is_what_was_asked(self) -> bool:
        claim = self._claim()
        return self._as_it_is or claim is None or claim.made_from in ("", made_from(self._spec))

    def _claim(self) -> Claim | None:
        claim = self._claims.get(self._name)
        return claim if claim and claim.owner == self._spec.owner else None

    def _start(self, instance: Instance) -> None:
        if self._launch and self._launch.ended() is None:
            self._tell("waiting; it is about to start")
            return
        see_that_ours(instance, self._spec.owner, self._claims, None)
        self._see_that_same()
        if instance.state == STOPPED:
            self._resize()
        self._tell("starting")
        left = max(1, round(self._end - time.monotonic()))
        ran = cli.run("start", self._name, "--timeout", str(left), seconds=left + cli.ANSWER_SECONDS)
        after = cli.find(self._name)
        if ran.returncode and (after is None or after.state in (STOPPED, SUSPENDED)):
            raise cli.failed(f"{self._name} cannot be started", ran)

    def _stop(self, why: str) -> None:
        self._tell(why)
        cli.check(cli.run("stop", self._name), f"{self._name} cannot be stopped")

    def _see_that_same(self) -> None:
        """It lets the key of its own user-data in, and no other: adopted with another, nobody could use it."""
        if not self._is_what_was_asked():
            raise Failure(
                f"{self._name} is ours, made by an earlier run from another image, user or user-data, which only a new machine can take. "
                f"Nothing says that it may go: `multipass delete --purge {self._name}`, then run this again"
            )

    def _use(self, instance: Instance) -> MachineState | None:
        """The instance runs: see whose it is, and whether it is as it should be."""
        if not instance.address:
            self._tell("waiting for an address")
            return None
        identity = cli.identify(self._name)
        if identity is None:
            self._tell("waiting for sshd")
            return None
        see_that_ours(instance, self._spec.owner, self._claims, identity)
        self._see_that_same()
        if not identity.host_key:
            self._tell("waiting for a host key")
            return None
        known = self._claim() or Claim(self._spec.owner, self._spec.user)
        self._claims.put(self._name, dataclasses.replace(known, host_key=identity.host_key))
        if self._differences():
            self._stop("stopping, to resize it")
            return None
        for mount in self._spec.mounts:
            self._mount(mount)
        return _state(instance, self._spec.user, identity.host_key)

    def _differences(self) -> dict[str, str]:
        """Settings to change, to their new values.

        Raises:
            Failure: the disk would have to shrink.
        """
        changes: dict[str, str] = {}
        if cli.setting(self._name, "cpus") != str(self._spec.cpus):
            changes["cpus"] = str(self._spec.cpus)
        if cli.size_differs(cli.setting(self._name, "memory"), self._spec.memory_mib):
            changes["memory"] = f"{self._spec.memory_mib}M"
        disk, wanted = cli.setting(self._name, "disk"), self._spec.disk_gib * 1024
        if cli.size_differs(disk, wanted):
            if cli.mib(disk)[0] > wanted:
                raise Failure(
                    f"{self._name} has a disk of {disk} and a disk cannot shrink to {self._spec.disk_gib}GiB: set its disk to at least "
                    "what it has, or have the machine recreated"
                )
            changes["disk"] = f"{self._spec.disk_gib}G"
        return changes

    def _resize(self) -> None:
        changes = self._differences()
        if changes:
            snapshots.before_resize(self._name, changes, self._options.snapshots, self._progress)
        for key, value in changes.items():
            self._tell(f"setting {key} to {value}")
            cli.check(cli.run("set", f"local.{self._name}.{key}={value}"), f"{self._name} cannot be resized")

    def _mount(self, mount: Mount) -> None:
        source = str(Path(mount.source).expanduser().absolute())
        there = cli.mounts(self._name).get(mount.target)
        if there == source:
            return
        if there is not None:
            cli.check(cli.run("umount", f"{self._name}:{mount.target}"), f"{self._name}: cannot unmount {mount.target}")
        self._tell(f"mounting {source}")
        ran = cli.run("mount", source, f"{self._name}:{mount.target}", seconds=max(1.0, self._end - time.monotonic()))
        if ran.returncode and cli.mounts(self._name).get(mount.target) != source:
            raise cli.failed(
                f"{self._name}: cannot mount {source} (as a snap, Multipass sees folders in the home directory only, and no hidden ones)",
                ran,
            )

    def _tell(self, what: str) -> None:
        """Says what is being done, once."""
        if what != self._told:
            self._told = what
            self._progress(f"{self._name}: {what}")


def _state(instance: Instance, user: str, host_key: str) -> MachineState:
    return MachineState(instance.name, instance.address, SSH_PORT, user, host_key, instance.state.lower())


@contextlib.contextmanager
def _lock(state_dir: Path, name: str) -> Generator[None]:
    """One run at a time per machine name; the kernel lets go of the lock of a run that was killed."""
    folder = state_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
