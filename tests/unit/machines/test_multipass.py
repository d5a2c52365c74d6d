"""The Multipass driver against the fake command line, which the contract test holds to the real one's sources."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.machines.driver import MachineSpec, MachineState, Mount
from actions.machines.multipass import MultipassDriver, check_host, cli, driver, ownership, snapshots
from actions.protocol import Failure
from actions.workloads import on_vm
from actions.workloads.files import MemberSpec, hosts, member_paths, sidecar_files
from tests.fakes.multipass_world import FakeMultipass

NAME, OWNER = "lab-server-1", "istio-vms/lab"
USER_DATA = "#cloud-config\nhostname: lab-server-1\nwrite_files:\n- path: /etc/motd\n  content: hello\n"


class Lab:
    """One operator: a driver, its state folder, and the fake Multipass."""

    def __init__(self, fake: FakeMultipass, folder: Path) -> None:
        self.fake = fake
        self.folder = folder
        self.state_dir = folder / "state"
        self.lines: list[str] = []
        self.driver = MultipassDriver(poll_seconds=0.02)

    @property
    def options(self) -> dict[str, Any]:
        return {"state_dir": str(self.state_dir), "timeout_seconds": 20}

    def spec(self, **changes: Any) -> MachineSpec:
        fields: dict[str, Any] = {"driver": "multipass", "name": NAME, "owner": OWNER, "cpus": 2, "memory_mib": 2048}
        fields |= {"disk_gib": 10, "image": "24.04", "user": "ubuntu", "user_data": USER_DATA}
        options = self.options | changes.pop("options", {})
        return MachineSpec(**fields | {"options": options} | changes)

    def ensure(self, **changes: Any) -> MachineState:
        return self.driver.ensure(self.spec(**changes), self.lines.append)

    def delete(self, owner: str = OWNER) -> None:
        self.driver.delete(NAME, owner, self.options, self.lines.append)

    def prepared(self, **faults: Any) -> None:
        """The instance, which is still being prepared, is ready now."""
        wait_until(lambda: NAME in self.fake.instances)
        self.fake.faults(**faults)
        self.fake.change(NAME, ready=0, started=time.time())

    def lose_claims(self) -> None:
        """Another checkout, another account, or a cleaned home directory."""
        for claim in (self.state_dir / "claims").iterdir():
            claim.unlink()

    def files(self) -> dict[Path, bytes]:
        """What is in the instance's file system."""
        return {path: path.read_bytes() for path in self.fake.root(NAME).rglob("*") if path.is_file()}

    @property
    def claims(self) -> list[str]:
        folder = self.state_dir / "claims"
        return sorted(claim.name for claim in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    fake = FakeMultipass(tmp_path)
    for key, value in fake.environment.items():
        monkeypatch.setenv(key, value)
    return Lab(fake, tmp_path)


def refused(lab: Lab, action: Callable[[], Any], match: str) -> str:
    """The action is refused, and nothing has changed in Multipass."""
    before = lab.fake.instances
    with pytest.raises(Failure, match=match) as raised:
        action()
    assert lab.fake.instances == before
    return str(raised.value)


# ------------------------------------------------------------------------------------------------------------------ launch


def test_a_fresh_machine_is_launched_as_specified(lab: Lab) -> None:
    state = lab.ensure()
    key = (lab.fake.root(NAME) / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    assert state == MachineState(NAME, "10.155.0.2", 22, "ubuntu", " ".join(key.split()[:2]), "running")
    instance = lab.fake.instances[NAME]
    assert (instance["cpus"], instance["memory"], instance["disk"]) == (2, 2 * 2**30, 10 * 2**30)
    assert instance["image"] == "24.04"
    assert lab.claims == [f"{NAME}.json"]


def test_user_data_arrives_whole_and_with_the_owner_in_front(lab: Lab) -> None:
    lab.ensure()
    assert (lab.fake.root(NAME) / "etc/motd").read_text() == "hello"
    assert (lab.fake.root(NAME) / "etc/istio-vms/owner").read_text() == f"{OWNER}\n"


def test_user_data_is_not_an_argument(lab: Lab) -> None:
    lab.ensure(user_data=USER_DATA + "runcmd: [[echo, sesame]]\n")
    assert "sesame" not in json.dumps(lab.fake.calls())
    (launch,) = lab.fake.calls("launch")
    assert launch[launch.index("--cloud-init") + 1] == "-"


def test_an_image_and_networks_are_passed_on(lab: Lab) -> None:
    lab.ensure(image="", options={"networks": ["en0", "name=en1,mode=manual"]})
    instance = lab.fake.instances[NAME]
    assert (instance["image"], instance["networks"]) == ("default", ["en0", "name=en1,mode=manual"])


def test_it_does_not_wait_for_cloud_init(lab: Lab) -> None:
    lab.fake.faults(init_seconds=30)
    started = time.monotonic()
    lab.ensure()
    assert time.monotonic() - started < 10


def test_a_machine_is_waited_for_through_all_its_states(lab: Lab) -> None:
    """Each phase lasts until the driver has said that it waits for it."""
    lab.fake.faults(prepare_seconds=1000)
    release: dict[str, Callable[[], None]] = {
        "waiting for the image": lambda: lab.prepared(boot_seconds=1000),
        "waiting; its state is Starting": lambda: lab.fake.faults(address_seconds=1000),
        "waiting for an address": lambda: lab.fake.faults(ssh_seconds=1000),
        "waiting for sshd": lab.fake.faults,
    }
    told: list[str] = []

    def progress(line: str) -> None:
        told.append(line.removeprefix(f"{NAME}: "))
        release.get(told[-1], lambda: None)()

    assert lab.driver.ensure(lab.spec(), progress).address == "10.155.0.2"
    assert told == ["launching 24.04", *release], "every line is told once"


def test_the_management_address_is_the_first(lab: Lab) -> None:
    lab.ensure()
    lab.fake.change(NAME, extra_ipv4=["10.42.0.0", "10.42.0.1"])
    assert lab.ensure().address == "10.155.0.2"


def test_a_launch_that_times_out_is_waited_for(lab: Lab) -> None:
    """`launch` ends with 5 while the instance lives; here it is not even listed yet."""
    lab.fake.faults(prepare_seconds=1000)
    with pytest.raises(Failure, match=r"was not up after 3 s .*Run this again"):
        lab.ensure(options={"timeout_seconds": 3})
    lab.prepared()
    assert lab.ensure().state == "running"
    assert len(lab.fake.calls("launch")) == 1, "what was begun is waited for, not begun again"


@pytest.mark.parametrize(
    "how",
    [[5, "Timed out waiting for instance launch.\n"], [2, f'launch failed: instance "{NAME}" is being prepared\n']],
)
def test_a_launch_that_fails_with_the_instance_alive_is_no_failure(lab: Lab, how: list[Any]) -> None:
    """An earlier run has begun it and lost its claim; our own launch is refused while it is being prepared."""
    words = ("launch", "--name", NAME, "--cpus", "2", "--memory", "2048M", "--disk", "10G", "--cloud-init", "-")
    lab.fake.run(*words, stdin=ownership.with_owner(USER_DATA, OWNER))
    lab.fake.change(NAME, ready=time.time() + 1000)
    lab.fake.faults(fail={"launch": how})
    threading.Timer(1, lambda: lab.fake.change(NAME, ready=0)).start()
    assert lab.ensure().address == lab.fake.instances[NAME]["ipv4"]


def test_a_driver_killed_during_launch_is_followed_by_one_that_goes_on(lab: Lab) -> None:
    lab.fake.faults(prepare_seconds=1000)
    document = json.dumps(dataclasses.asdict(lab.spec()))
    process = subprocess.Popen([sys.executable, "-m", "actions", "machines.ensure"], stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(document.encode())
    process.stdin.close()
    wait_until(lambda: bool(lab.fake.instances))
    process.kill()
    process.wait()
    lab.prepared()
    assert lab.ensure().state == "running"
    assert len(lab.fake.calls("launch")) == 1


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_launch_that_fails_leaves_no_claim(lab: Lab) -> None:
    message = refused(lab, lambda: lab.ensure(memory_mib=64), "cannot be launched")
    assert "Invalid memory size value supplied: 64M" in message
    assert lab.claims == []


def test_user_data_that_multipass_would_not_take_is_refused(lab: Lab) -> None:
    refused(lab, lambda: lab.ensure(user_data="#!/bin/sh\nreboot\n"), "no cloud-config document")
    refused(lab, lambda: lab.ensure(user_data="a: ["), "is no YAML")
    assert lab.fake.calls("launch") == []


# -------------------------------------------------------------------------------------------------- the daemon and the tool


@pytest.mark.parametrize("how", ["down", "unavailable"])
@pytest.mark.parametrize(
    ("system", "hint"), [("Linux", "sudo snap start multipass"), ("Darwin", "sudo launchctl load ")]
)
def test_a_stopped_daemon_says_how_to_start_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str, system: str, hint: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    lab.fake.faults(daemon=how)
    for action in (lab.ensure, lab.delete, lambda: lab.driver.list(OWNER, lab.options)):
        assert hint in refused(lab, action, "daemon does not run")


@pytest.mark.parametrize(
    ("how", "system", "hint"),
    [
        ("denied", "Linux", "sudo usermod -aG sudo"),
        ("denied", "Darwin", "/var/run/multipass_socket"),
        ("stranger", "Linux", "multipass authenticate"),
    ],
)
def test_a_daemon_that_will_not_have_us_says_what_to_do(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str, system: str, hint: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    lab.fake.faults(daemon=how)
    for action in (lab.ensure, lab.delete, lambda: lab.driver.list(OWNER, lab.options), check_host):
        assert hint in refused(lab, action, "this user")


@pytest.mark.parametrize("client", ["1.12.2", "1.9.0-dev.5+g123", "unheard-of"])
@pytest.mark.parametrize(("system", "hint"), [("Linux", "snap refresh multipass"), ("Darwin", "brew upgrade")])
def test_a_command_line_that_is_too_old_is_refused_before_anything_is_done(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, client: str, system: str, hint: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    lab.fake.faults(versions=[client, client])
    assert hint in refused(lab, lab.ensure, rf"Multipass is {re.escape(client)}, and 1\.13\.0 or newer is needed")
    assert lab.fake.calls() == [["version", "--format", "json"]]


def test_a_command_line_of_before_json_is_too_old(lab: Lab) -> None:
    lab.fake.faults(fail={"version": [1, "Unknown option 'format'.\n"]})
    refused(lab, lab.ensure, r"Multipass is of long ago, and 1\.13\.0")


def test_a_daemon_of_another_release_is_to_be_restarted(lab: Lab) -> None:
    lab.fake.faults(versions=["1.16.3", "1.15.1"])
    assert "sudo snap restart multipass" in refused(
        lab, lab.ensure, r"daemon is 1\.15\.1 and its command line 1\.16\.3"
    )


@pytest.mark.parametrize("versions", [["1.16.3+mac", "1.16.3+mac"], ["1.13.0", "1.13.0"], ["2.0.0", "2.0.0"]])
def test_other_releases_do(lab: Lab, versions: list[str]) -> None:
    lab.fake.faults(versions=versions)
    assert lab.ensure().state == "running"


def test_a_daemon_that_stops_during_launch_is_said(lab: Lab) -> None:
    lab.fake.faults(fail={"launch": [2, "launch failed: cannot connect to the multipass socket\n"]})
    refused(lab, lab.ensure, "daemon does not run")


def test_a_daemon_that_does_not_answer_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.fake.faults(daemon="silent")
    monkeypatch.setattr(cli, "run", lambda *words, seconds=0: original(*words, seconds=1))
    assert "sudo snap restart multipass" in refused(lab, lab.ensure, "gave no answer for 1 s")


original = cli.run


def test_a_missing_tool_says_how_to_get_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(lab.folder))
    refused(lab, lab.ensure, "snap install multipass")


def test_unknown_options_are_refused(lab: Lab) -> None:
    refused(lab, lambda: lab.ensure(options={"bridge": "en0"}), "unknown: bridge; known are networks")


# --------------------------------------------------------------------------------------------------------------- adoption


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    first = lab.ensure()
    before, calls = lab.fake.instances, len(lab.fake.calls())
    assert lab.ensure() == first
    assert lab.fake.instances == before
    assert len(lab.fake.calls()) - calls == 6, "version, list, exec, and one `get` per size"


def test_a_new_address_is_told(lab: Lab) -> None:
    lab.ensure()
    lab.fake.change(NAME, ipv4="10.155.0.77")
    assert lab.ensure().address == "10.155.0.77"


@pytest.mark.parametrize("state", ["Stopped", "Suspended"])
def test_one_of_ours_that_does_not_run_is_started(lab: Lab, state: str) -> None:
    first = lab.ensure()
    lab.fake.change(NAME, state=state)
    assert lab.ensure() == first
    assert lab.fake.instances[NAME]["boots"] == 2


@pytest.mark.parametrize("state", ["Unknown", "Restarting", "Suspending"])
def test_a_passing_state_is_waited_for(lab: Lab, state: str) -> None:
    first = lab.ensure()
    lab.fake.faults(states={NAME: state})
    threading.Timer(0.5, lab.fake.faults).start()
    assert lab.ensure() == first


@pytest.mark.parametrize("state", ["Starting", "Restarting", "Suspending", "a state of tomorrow"])
def test_a_state_that_does_not_pass_is_said(lab: Lab, state: str) -> None:
    lab.ensure()
    lab.fake.faults(states={NAME: state})
    said = rf"was not up .*state is {state}.*multipass info"
    refused(lab, lambda: lab.ensure(options={"timeout_seconds": 0.3}), said)


def test_a_machine_that_multipass_has_lost_touch_with_is_not_powered_off_by_us(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lab.ensure()
    monkeypatch.setattr(driver, "UNKNOWN_SECONDS", 0.2)
    lab.fake.faults(states={NAME: "Unknown"})
    refused(lab, lab.ensure, rf"`multipass stop --force {NAME}` powers it off; then run this again")
    assert lab.fake.calls("stop") == []
    lab.fake.faults()
    lab.fake.run("stop", "--force", NAME)
    assert lab.ensure() == first, "what the message says works"


def test_a_delayed_shutdown_is_called_off(lab: Lab) -> None:
    first = lab.ensure()
    lab.fake.run("stop", "--time", "10", NAME)
    assert lab.fake.instances[NAME]["state"] == "Delayed Shutdown"
    assert lab.ensure() == first
    assert lab.fake.instances[NAME]["boots"] == 1


def test_one_that_cannot_be_started_is_said(lab: Lab) -> None:
    lab.ensure()
    lab.fake.change(NAME, state="Stopped")
    lab.fake.faults(fail={"start": [2, "start failed: not enough memory\n"]})
    refused(lab, lab.ensure, r"cannot be started: .*exit code 2:\s+start failed: not enough memory")


def test_one_made_from_another_checkout_is_known_by_its_mark(lab: Lab) -> None:
    first = lab.ensure()
    lab.lose_claims()
    assert lab.ensure() == first
    assert lab.claims == [f"{NAME}.json"]


def test_one_deleted_but_not_purged_is_recovered_if_it_is_ours(lab: Lab) -> None:
    first = lab.ensure()
    (lab.fake.root(NAME) / "etc/motd").write_text("written since")
    lab.fake.run("delete", NAME)
    assert lab.ensure() == first
    assert (lab.fake.root(NAME) / "etc/motd").read_text() == "written since"
    assert lab.fake.calls("recover") == [["recover", NAME]]
    assert lab.fake.calls("purge") == [], "purge would take other people's instances too"


def test_one_deleted_that_was_made_from_something_else_is_purged(lab: Lab) -> None:
    """Recovered, it would let the key of its own user-data in, and not the one that is asked for now."""
    first = lab.ensure()
    lab.fake.run("delete", NAME)
    second = lab.ensure(user_data=USER_DATA.replace("hello", "another key"))
    assert second.address != first.address
    assert ["delete", "--purge", NAME] in lab.fake.calls("delete")
    assert lab.fake.calls("purge") == [], "purge would take other people's instances too"


@pytest.mark.parametrize("state", ["Running", "Stopped"])
@pytest.mark.parametrize("change", [{"user_data": USER_DATA + "# another"}, {"image": "22.04"}])
def test_one_made_from_something_else_is_not_adopted(lab: Lab, state: str, change: dict[str, Any]) -> None:
    lab.ensure()
    lab.fake.change(NAME, state=state)
    message = refused(lab, lambda: lab.ensure(**change), "made by an earlier run from another image, user or user-data")
    assert f"multipass delete --purge {NAME}" in message
    assert lab.driver.update(lab.spec(**change), lab.lines.append).state == "running", "update takes it as it is"


def test_one_of_an_earlier_release_that_wrote_no_digest_is_adopted(lab: Lab) -> None:
    first = lab.ensure()
    claim = lab.state_dir / "claims" / f"{NAME}.json"
    claim.write_text(json.dumps({"owner": OWNER, "user": "ubuntu", "host_key": first.host_key}))
    assert lab.ensure(user_data=USER_DATA + "# another") == first


# ---------------------------------------------------------------------------------------------------------- not ours, so no


@pytest.mark.parametrize("state", ["Unknown", "Stopped", "Suspended", "Deleted"])
def test_somebodys_machine_in_any_state_is_left_as_it_is(lab: Lab, state: str) -> None:
    foreign(lab)
    lab.fake.faults(states={NAME: state})
    lab.fake.change(NAME, deleted=state == "Deleted")
    assert "frees its name" in refused(lab, lab.ensure, "nothing here says that it belongs to")


def foreign(lab: Lab, owner: str = "") -> None:
    """An instance of that name which someone else made."""
    user_data = ownership.with_owner("{}", owner) if owner else "{}"
    lab.fake.run("launch", "--name", NAME, "--cloud-init", "-", stdin=user_data)


def test_someone_elses_running_machine_is_refused(lab: Lab) -> None:
    foreign(lab)
    refused(lab, lab.ensure, r"has no /etc/istio-vms/owner")
    refused(lab, lab.delete, r"left alone")


def test_another_stacks_machine_is_refused(lab: Lab) -> None:
    foreign(lab, "istio-vms/dev")
    refused(lab, lab.ensure, "belongs to 'istio-vms/dev'")
    refused(lab, lab.delete, "belongs to 'istio-vms/dev'")


@pytest.mark.parametrize(
    ("command", "hint"), [("stop", "multipass start"), ("suspend", "multipass start"), ("delete", "multipass recover")]
)
def test_one_that_cannot_be_asked_is_not_started_to_find_out(lab: Lab, command: str, hint: str) -> None:
    foreign(lab)
    lab.fake.run(command, NAME)
    for action in (lab.ensure, lab.delete):
        assert hint in refused(lab, action, "nothing here says that it belongs to")


def test_a_stack_that_is_refused_takes_nothing_from_the_one_that_has_it(lab: Lab) -> None:
    first = lab.ensure()
    refused(lab, lambda: lab.ensure(owner="istio-vms/dev"), "belongs to 'istio-vms/lab'")
    lab.fake.run("stop", NAME)
    assert lab.ensure() == first


@pytest.mark.parametrize(
    "change", [{"name": "../x"}, {"name": "-x"}, {"image": "--mount=/:/x"}, {"options": {"networks": ["--x"]}}]
)
def test_nothing_is_taken_for_an_option_or_a_path(lab: Lab, change: dict[str, Any]) -> None:
    refused(lab, lambda: lab.ensure(**change), "is no instance name|is neither an image nor a network")
    assert lab.fake.calls() == []


def test_a_claim_does_not_outweigh_what_the_machine_says(lab: Lab) -> None:
    """Ours was removed by hand, and someone made another of the same name."""
    lab.ensure()
    lab.fake.run("delete", "--purge", NAME)
    foreign(lab, "someone/else")
    refused(lab, lab.ensure, "belongs to 'someone/else'")
    assert lab.claims == []


def test_a_machine_that_ignored_its_user_data_is_not_taken_for_ours(lab: Lab) -> None:
    lab.fake.faults(ignore_user_data=True)
    with pytest.raises(Failure, match=r"has no /etc/istio-vms/owner, which cloud-init writes in ours.*delete --purge"):
        lab.ensure()


# ----------------------------------------------------------------------------------------------------------------- resize


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [({"cpus": 4}, "cpus", 4), ({"memory_mib": 3072}, "memory", 3 * 2**30), ({"disk_gib": 20}, "disk", 20 * 2**30)],
)
def test_a_machine_is_resized_in_place(lab: Lab, change: dict[str, int], key: str, value: int) -> None:
    first = lab.ensure()
    assert lab.ensure(**change) == first
    assert lab.fake.instances[NAME][key] == value
    assert lab.fake.instances[NAME]["boots"] == 2
    assert len(lab.fake.calls("launch")) == 1
    assert lab.ensure(**change) == first
    assert lab.fake.instances[NAME]["boots"] == 2, "the next run finds nothing to do"


def test_memory_may_shrink(lab: Lab) -> None:
    lab.ensure()
    lab.ensure(memory_mib=1024)
    assert lab.fake.instances[NAME]["memory"] == 2**30


def test_a_resize_that_was_cut_short_is_finished(lab: Lab) -> None:
    lab.ensure()
    lab.fake.run("stop", NAME)
    lab.fake.run("set", f"local.{NAME}.cpus=4")
    lab.ensure(cpus=4, memory_mib=4096)
    instance = lab.fake.instances[NAME]
    assert (instance["cpus"], instance["memory"], instance["state"], instance["boots"]) == (4, 4 * 2**30, "Running", 2)


def test_a_suspended_machine_is_resized_too(lab: Lab) -> None:
    lab.ensure()
    lab.fake.run("suspend", NAME)
    assert lab.ensure(cpus=4).state == "running"
    assert lab.fake.instances[NAME]["cpus"] == 4


def test_a_disk_does_not_shrink_and_the_machine_goes_on(lab: Lab) -> None:
    lab.ensure()
    refused(lab, lambda: lab.ensure(disk_gib=5, cpus=4), r"has a disk of 10\.0GiB and a disk cannot shrink to 5GiB")
    assert lab.fake.calls("stop") == []


@pytest.mark.parametrize("memory_mib", [512, 1500, 2500, 3000, 7777])
def test_a_size_that_multipass_shows_rounded_is_not_taken_for_a_change(lab: Lab, memory_mib: int) -> None:
    lab.ensure(memory_mib=memory_mib)
    lab.ensure(memory_mib=memory_mib)
    assert lab.fake.calls("stop") == []


def test_a_size_in_a_form_unknown_is_an_error() -> None:
    with pytest.raises(Failure, match="'2 gibibytes'"):
        cli.mib("2 gibibytes")


def test_a_disk_that_would_shrink_stops_nothing_and_a_stopped_machine_stays_stopped(lab: Lab) -> None:
    lab.ensure()
    lab.fake.change(NAME, state="Stopped")
    refused(lab, lambda: lab.ensure(disk_gib=5, cpus=4), "a disk cannot shrink")
    assert lab.fake.calls("set") == lab.fake.calls("start") == []


def test_only_what_differs_is_set(lab: Lab) -> None:
    lab.ensure()
    lab.ensure(memory_mib=3072)
    assert lab.fake.calls("set") == [["set", f"local.{NAME}.memory=3072M"]]


def test_a_machine_with_another_address_after_its_resize_says_so(lab: Lab) -> None:
    lab.ensure()
    lab.fake.faults(new_addresses=True)
    state = lab.ensure(cpus=4)
    assert state.address == lab.fake.instances[NAME]["ipv4"] != "10.155.0.2"


def test_a_resize_killed_after_the_stop_is_finished(lab: Lab) -> None:
    first = lab.ensure()
    lab.fake.faults(fail={"set": [2, "set failed: killed\n"]})
    with pytest.raises(Failure, match="cannot be resized"):
        lab.ensure(cpus=4)
    assert lab.fake.instances[NAME]["state"] == "Stopped"
    lab.fake.faults()
    assert lab.ensure(cpus=4) == first
    assert lab.fake.instances[NAME]["cpus"] == 4


# -------------------------------------------------------------------------------------------------------------- snapshots


def resize(lab: Lab, cpus: int, keep: int) -> None:
    lab.ensure(cpus=cpus, options={"snapshots": keep})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever somebody asks for the time."""

    class Clock(datetime):
        seconds = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            cls.seconds += 1
            return cls(2026, 11, 21, 13, 0, cls.seconds, tzinfo=tz)

    monkeypatch.setattr(snapshots, "datetime", Clock)


def test_no_snapshot_is_taken_unasked(lab: Lab) -> None:
    lab.ensure()
    lab.ensure(cpus=4)
    assert lab.fake.calls("snapshot") == []


@pytest.mark.usefixtures("clock")
def test_a_snapshot_is_taken_before_each_resize_and_the_newest_are_kept(lab: Lab) -> None:
    lab.ensure()
    lab.fake.run("stop", NAME)
    for own in ("mine", "before-resize-of-mine"):
        lab.fake.run("snapshot", "--name", own, NAME)
    for cpus in (3, 4, 5):
        resize(lab, cpus, keep=2)
    found = lab.fake.instances[NAME]["snapshots"]
    assert list(found) == [
        "mine",
        "before-resize-of-mine",
        "before-resize-20261121t130002z",
        "before-resize-20261121t130003z",
    ]
    assert [s["sizes"]["cpus"] for s in found.values()] == [2, 2, 3, 4]
    assert found["before-resize-20261121t130003z"]["comment"] == "before cpus=5"
    assert lab.fake.instances[NAME]["state"] == "Running"


@pytest.mark.usefixtures("clock")
def test_a_resize_that_is_finished_later_has_the_snapshot_of_before(lab: Lab) -> None:
    lab.ensure()
    lab.fake.faults(fail={"set": [2, "set failed: killed\n"]})
    with pytest.raises(Failure):
        resize(lab, 4, keep=1)
    lab.fake.faults()
    resize(lab, 4, keep=1)
    assert list(lab.fake.instances[NAME]["snapshots"]) == ["before-resize-20261121t130001z"]


def test_a_machine_without_snapshots_is_not_resized_when_they_are_asked_for(lab: Lab) -> None:
    lab.ensure()
    lab.fake.faults(no_snapshots=True)
    with pytest.raises(Failure, match="snapshots feature is not implemented on this backend"):
        resize(lab, 4, keep=1)
    assert lab.fake.instances[NAME]["cpus"] == 2


@pytest.mark.parametrize("state", ["Running", "Stopped"])
def test_a_snapshot_by_hand_leaves_the_machine_as_it_was(lab: Lab, state: str) -> None:
    lab.ensure()
    lab.fake.change(NAME, state=state)
    taken = lab.driver.snapshot(lab.spec(), lab.lines.append)
    (made,) = lab.fake.instances[NAME]["snapshots"]
    assert re.fullmatch(r"by-hand-\d{8}t\d{6}z", made)
    assert (taken.machine, taken.snapshot) == (NAME, f"{NAME}.{made}")
    assert lab.fake.instances[NAME]["state"] == state
    lab.fake.run("stop", NAME)
    lab.fake.run("set", f"local.{NAME}.cpus=7")
    assert lab.fake.run(*taken.restore.split()[1:], "--destructive").returncode == 0
    assert lab.fake.instances[NAME]["cpus"] == 2


def test_snapshots_by_hand_stay(lab: Lab) -> None:
    lab.ensure()
    lab.driver.snapshot(lab.spec(), lab.lines.append)
    for cpus in (3, 4):
        resize(lab, cpus, keep=1)
        time.sleep(1)
    kinds = [name.rsplit("-", 1)[0] for name in lab.fake.instances[NAME]["snapshots"]]
    assert kinds == ["by-hand", "before-resize"]


def test_a_snapshot_that_fails_leaves_the_machine_running(lab: Lab) -> None:
    lab.ensure()
    lab.fake.faults(fail={"snapshot": [2, "snapshot failed: no space left\n"]})
    with pytest.raises(Failure, match="no space left"):
        lab.driver.snapshot(lab.spec(), lab.lines.append)
    assert lab.fake.instances[NAME]["state"] == "Running"


@pytest.mark.parametrize("state", ["Suspended", "Unknown", "Deleted"])
def test_no_snapshot_of_a_machine_that_cannot_be_stopped(lab: Lab, state: str) -> None:
    lab.ensure()
    lab.fake.faults(states={NAME: state})
    refused(lab, lambda: lab.driver.snapshot(lab.spec(), lab.lines.append), f"is {state.lower()}: a snapshot is taken")


def test_no_snapshot_of_somebodys_machine(lab: Lab) -> None:
    foreign(lab)
    refused(lab, lambda: lab.driver.snapshot(lab.spec(), lab.lines.append), "left alone")


def test_a_machine_goes_with_its_snapshots(lab: Lab) -> None:
    lab.ensure()
    lab.driver.snapshot(lab.spec(), lab.lines.append)
    lab.delete()
    assert lab.fake.instances == {}


# ----------------------------------------------------------------------------------------------------------------- mounts


def test_folders_are_mounted_once(lab: Lab) -> None:
    folder = lab.folder / "artifacts"
    folder.mkdir()
    for _ in range(2):
        lab.ensure(mounts=(Mount(str(folder), "/opt/istio-vms"),))
    assert lab.fake.instances[NAME]["mounts"] == {"/opt/istio-vms": str(folder)}
    assert len(lab.fake.calls("mount")) == 1


def test_folders_are_mounted_while_cloud_init_still_waits_for_them(lab: Lab) -> None:
    lab.fake.faults(init_seconds=30)
    lab.ensure(mounts=(Mount(str(lab.folder), "/opt/istio-vms"),))
    assert lab.fake.instances[NAME]["mounts"] == {"/opt/istio-vms": str(lab.folder)}


def test_another_folder_takes_the_place_of_the_first(lab: Lab) -> None:
    for folder in ("one", "two"):
        (lab.folder / folder).mkdir()
        lab.ensure(mounts=(Mount(str(lab.folder / folder), "/opt/istio-vms"),))
    assert lab.fake.instances[NAME]["mounts"] == {"/opt/istio-vms": str(lab.folder / "two")}


def test_a_folder_that_is_not_there_is_said(lab: Lab) -> None:
    lab.ensure()
    refused(
        lab,
        lambda: lab.ensure(mounts=(Mount("/no/such/folder", "/opt"),)),
        r"cannot mount /no/such/folder [^\n]*\n.*does not exist",
    )


# ------------------------------------------------------------------------------------------------------- delete and list


def test_a_deleted_machine_is_gone_for_good(lab: Lab) -> None:
    lab.ensure()
    lab.delete()
    assert lab.fake.instances == {}
    assert lab.claims == []


def test_delete_again_and_again_is_fine(lab: Lab) -> None:
    lab.ensure()
    for _ in range(3):
        lab.delete()


@pytest.mark.parametrize("state", ["Stopped", "Suspended"])
def test_one_that_does_not_run_is_deleted(lab: Lab, state: str) -> None:
    lab.ensure()
    lab.fake.change(NAME, state=state)
    lab.delete()
    assert lab.fake.instances == {}


def test_one_deleted_but_not_purged_is_purged(lab: Lab) -> None:
    lab.ensure()
    lab.fake.run("delete", NAME)
    lab.delete()
    assert lab.fake.instances == {}


def test_one_of_ours_that_lets_nobody_in_is_deleted_all_the_same(lab: Lab) -> None:
    lab.ensure()
    lab.fake.faults(ssh_seconds=1000)
    lab.delete()
    assert lab.fake.instances == {}


def join_and_leave(lab: Lab) -> None:
    """With the real programs, on the instance's file system."""
    for path in on_vm.SIDECAR:
        (lab.fake.root(NAME) / path).parent.mkdir(parents=True, exist_ok=True)
        (lab.fake.root(NAME) / path).touch()
    member = MemberSpec(
        workload="w", namespace="vms", cluster_id="c", address="10.155.0.2", gateway_addresses=("10.155.0.3",)
    )
    files = [
        {"path": path, **dataclasses.asdict(file)} for path, file in sidecar_files(member, "root", "token").items()
    ]
    joining = {
        "action": "install",
        "files": files,
        "hosts": hosts(member),
        "port": member.istiod_port,
        "new_certificate": False,
        "set_owners": False,
    }
    leaving = {"action": "remove", "paths": member_paths(), "set_owners": False}
    before = lab.files()
    for request in (joining, leaving):
        lab.fake.send(NAME, Path(on_vm.__file__).read_text(), request)
        assert (lab.files() == before) == (request is leaving)


def test_one_that_has_left_the_mesh_is_deleted(lab: Lab) -> None:
    lab.ensure()
    join_and_leave(lab)
    lab.delete()
    assert lab.fake.instances == {}


def lose_mark(lab: Lab) -> None:
    """As leaving the mesh did once."""
    shutil.rmtree(lab.fake.root(NAME) / "etc/istio-vms")


def test_one_whose_mark_is_gone_is_ours_by_its_claim(lab: Lab) -> None:
    first = lab.ensure()
    lose_mark(lab)
    assert lab.ensure() == first
    lab.delete()
    assert lab.fake.instances == {}


def test_without_a_mark_and_with_another_host_key_it_is_somebody_elses(lab: Lab) -> None:
    """Ours was removed by hand, and someone made another of the same name."""
    lab.ensure()
    lab.fake.run("delete", "--purge", NAME)
    foreign(lab)
    refused(lab, lab.delete, r"has no /etc/istio-vms/owner.*left alone")
    assert lab.claims == []


def test_without_a_mark_and_without_a_claim_it_is_left_alone(lab: Lab) -> None:
    lab.ensure()
    lose_mark(lab)
    lab.lose_claims()
    refused(lab, lab.delete, r"has no /etc/istio-vms/owner.*left alone")


@pytest.mark.parametrize("state", ["Unknown", "Delayed Shutdown", "Starting", "Restarting", "Suspending"])
def test_one_in_any_state_is_deleted(lab: Lab, state: str) -> None:
    lab.ensure()
    lab.fake.faults(states={NAME: state})
    lab.delete()
    assert lab.fake.instances == {}


def test_one_that_is_being_prepared_is_waited_for_and_deleted(lab: Lab) -> None:
    lab.fake.faults(prepare_seconds=1000)
    with pytest.raises(Failure):
        lab.ensure(options={"timeout_seconds": 3})
    assert NAME in lab.fake.instances
    threading.Timer(0.5, lab.prepared).start()
    lab.delete()
    assert lab.fake.instances == {}


def test_a_delete_that_fails_is_said(lab: Lab) -> None:
    lab.ensure()
    lab.fake.faults(fail={"delete": [2, "delete failed: the disk is on fire\n"]})
    refused(lab, lab.delete, "the disk is on fire")
    assert lab.claims == [f"{NAME}.json"]


def test_the_list_has_this_owners_machines_whatever_their_state(lab: Lab) -> None:
    first = lab.ensure()
    lab.driver.ensure(lab.spec(name="lab-vm-1"), lab.lines.append)
    lab.driver.ensure(lab.spec(name="dev-vm-1", owner="istio-vms/dev"), lab.lines.append)
    lab.fake.run("launch", "--name", "private")
    lab.fake.run("stop", "lab-vm-1")
    calls = len(lab.fake.calls())
    found = lab.driver.list(OWNER, lab.options)
    assert [(m.name, m.state) for m in found] == [(NAME, "running"), ("lab-vm-1", "stopped")]
    assert found[0] == first
    assert (found[1].address, found[1].host_key[:12]) == ("", "ssh-ed25519 ")
    assert [words[0] for words in lab.fake.calls()[calls:]] == ["version", "list"]


def test_the_list_has_one_that_is_still_being_prepared_and_none_that_is_gone(lab: Lab) -> None:
    """`make down` removes by this list what a killed `make up` has begun."""
    lab.driver.ensure(lab.spec(name="lab-vm-1"), lab.lines.append)
    lab.fake.run("delete", "--purge", "lab-vm-1")
    lab.fake.faults(prepare_seconds=1000)
    with pytest.raises(Failure):
        lab.ensure(options={"timeout_seconds": 3})
    assert [(m.name, m.state) for m in lab.driver.list(OWNER, lab.options)] == [(NAME, "being prepared")]


# ----------------------------------------------------------------------------------------------------------------- claims


@pytest.fixture
def homes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Claims are where the user's state is, and where an earlier version, which did not look for that, put them."""
    monkeypatch.setenv("HOME", str(lab.folder / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(lab.folder / "xdg"))
    monkeypatch.setattr(Lab, "options", {"timeout_seconds": 20})
    return lab


def test_claims_are_in_the_users_state_home(homes: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    homes.ensure()
    assert (homes.folder / f"xdg/istio-vms/multipass/claims/{NAME}.json").exists()
    assert not (homes.folder / "home").exists()
    monkeypatch.delenv("XDG_STATE_HOME")
    assert homes.driver.list(OWNER, {}) == []


def test_claims_of_an_earlier_version_count(homes: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    first = homes.ensure()
    monkeypatch.setenv("XDG_STATE_HOME", str(homes.folder / "xdg"))
    assert homes.driver.list(OWNER, {}) == [first]
    homes.fake.run("stop", NAME)
    assert homes.ensure() == first
    homes.delete()
    assert homes.driver.list(OWNER, {}) == []
    assert not list(homes.folder.glob("*/**/claims/*.json"))


# ------------------------------------------------------------------------------------------------------------------- lock


def test_two_runs_for_one_machine_make_one(lab: Lab) -> None:
    lab.fake.faults(prepare_seconds=0.3, boot_seconds=0.3)
    states: list[MachineState] = []
    threads = [threading.Thread(target=lambda: states.append(lab.ensure())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(states) == 3 and len(set(states)) == 1
    assert len(lab.fake.calls("launch")) == 1


def test_a_run_that_was_killed_leaves_no_lock(lab: Lab) -> None:
    (lab.state_dir / "locks").mkdir(parents=True)
    holder = lab.state_dir / "locks" / f"{NAME}.lock"
    program = "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program, str(holder)], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    with holder.open("w") as probe, pytest.raises(BlockingIOError):
        fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.kill()
    process.wait()
    assert lab.ensure().state == "running"


def test_nothing_is_left_running(lab: Lab) -> None:
    lab.fake.faults(init_seconds=30)
    lab.ensure()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_mark_goes_before_the_files_of_the_user_data() -> None:
    document = yaml.safe_load(ownership.with_owner(USER_DATA, OWNER))
    assert [file["path"] for file in document["write_files"]] == ["/etc/istio-vms/owner", "/etc/motd"]
    assert document["hostname"] == "lab-server-1"
    assert re.match(r"#cloud-config\n", ownership.with_owner("{}", OWNER))
