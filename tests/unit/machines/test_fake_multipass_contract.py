"""Holds the fake `multipass` to what is written in canonical/multipass at v1.16.3: one row per behaviour, each with its source.

Failures are those of `tests/fakes/multipass_answers.py`, which the fake answers from. With `MULTIPASS_CONTRACT=real` and a real `multipass`
on PATH, that one is asked the same, of an instance made for it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.multipass_answers import ANSWERS
from tests.fakes.multipass_world import FakeMultipass

Commands = tuple[tuple[str, ...], ...]
INSTANCE = "istio-vms-contract"
VM: Commands = (("launch", "--name", "vm1", "--cpus", "2", "--memory", "2G", "--disk", "10G"),)
STOPPED: Commands = (*VM, ("stop", "vm1"))
DELETED: Commands = (*VM, ("delete", "vm1"))
SNAPPED: Commands = (*STOPPED, ("snapshot", "vm1"))

LAUNCH = "src/client/cli/cmd/launch.cpp"
DAEMON = "src/daemon/daemon.cpp"
JSON = "src/client/cli/formatter/json_formatter.cpp"
SETTINGS = "src/daemon/instance_settings_handler.cpp"
RETURN_CODES = "include/multipass/cli/return_codes.h"
COMMON = "src/client/cli/cmd/common_cli.cpp"
CLI_TESTS = "tests/cli/cli_vm_lifecycle_test.py on main"


@dataclass(frozen=True)
class Row:
    """After `given`, and with `faults`, the command line ends as it should.

    Attributes:
        name: what is shown.
        command: the words after `multipass`. `vm1` stands for the instance.
        answer: which of `ANSWERS` it ends with, none where it succeeds.
        source: where that was read; an answer has its own.
        code: the exit code of what is no answer of Multipass's own.
        stdout: what it prints, or the shape of it.
        given: commands before it.
        faults: what is wrong in the fake; the real one cannot be had to do it.
        stdin: what it reads.
        only_fake: the real one may have other instances, or may not do this with any file.
    """

    name: str
    command: tuple[str, ...]
    answer: str = ""
    source: str = ""
    code: int = 0
    stdout: Any = None
    given: Commands = ()
    faults: Mapping[str, Any] = field(default_factory=dict)
    stdin: str = ""
    only_fake: bool = False

    @property
    def for_real(self) -> bool:
        return not self.faults and not self.only_fake

    def named(self, instance: str) -> tuple[tuple[str, ...], Commands]:
        """The command, and those before it, for an instance of another name."""

        def rename(words: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(re.sub(r"\bvm1\b", instance, word) for word in words)

        return rename(self.command), tuple(map(rename, self.given))


def number(value: Any) -> bool:
    return isinstance(value, int)


def digits(value: Any) -> bool:
    return isinstance(value, str) and value.isdigit()


def address(value: Any) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+){3}", value))


INFO_RUNNING = {
    "errors": [],
    "info": {
        "vm1": {
            "cpu_count": "2",
            "disks": {"sda1": {"used": digits, "total": digits}},
            "image_hash": str,
            "image_release": str,
            "ipv4": [address],
            "load": [float, float, float],
            "memory": {"used": number, "total": number},
            "mounts": {},
            "release": str,
            "snapshot_count": "0",
            "state": "Running",
        }
    },
}
INFO_STOPPED = {
    "errors": [],
    "info": {
        "vm1": INFO_RUNNING["info"]["vm1"]
        | {
            "cpu_count": "",
            "disks": {"sda1": {}},
            "ipv4": [],
            "load": [],
            "memory": {},
            "release": "",
            "state": "Stopped",
        }
    },
}


def listed(state: str, ipv4: list[Any]) -> dict[str, Any]:
    return {"list": [{"ipv4": ipv4, "name": "vm1", "release": str, "state": state}]}


def stuck(state: str) -> dict[str, Any]:
    return {"states": {"vm1": state}}


ROWS = [
    # --- launch
    Row("launch ends when cloud-init has ended", VM[0], source=LAUNCH, stdout="Launched: vm1"),
    Row(
        "launch gives up waiting with 5",
        ("launch", "--name", "vm1", "--timeout", "1"),
        answer="launch timed out",
        faults={"init_seconds": 600},
    ),
    Row(
        "the daemon gives up waiting for cloud-init with 2",
        ("launch", "--name", "vm1"),
        answer="initialization timed out",
        faults={"init_seconds": 600, "init_timeout": 0.1},
    ),
    Row("a name that is taken", ("launch", "--name", "vm1"), answer="name taken", given=VM),
    Row("a name that is deleted but not purged", ("launch", "--name", "vm1"), answer="name taken", given=DELETED),
    Row("no processors", ("launch", "--cpus", "0"), answer="bad cpus"),
    Row("too little memory", ("launch", "--name", "vm1", "--memory", "64M"), answer="bad memory"),
    Row("a bad name", ("launch", "--name", "no_underscores"), answer="bad name"),
    Row("user-data that is not there", ("launch", "--cloud-init", "/no/such/file"), answer="bad cloud-init"),
    Row("user-data on stdin that is no YAML", ("launch", "--cloud-init", "-"), answer="bad cloud-init", stdin="a: ["),
    Row(
        "a folder to mount that is not there", ("launch", "--mount", "/no/such/folder:/x"), answer="launch mount source"
    ),
    Row("no time at all", ("launch", "--timeout", "0"), answer="bad timeout"),
    Row("two images", ("launch", "a", "b"), answer="too many arguments"),
    Row("an unknown option", ("launch", "--ram", "1G"), answer="unknown option"),
    # --- what is being prepared
    Row(
        "what is being prepared is in no list",
        ("list", "--format", "json"),
        source=f"{DAEMON} create_vm: operative_instances are set when the image is ready",
        stdout={"list": []},
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"prepare_seconds": 600},
        only_fake=True,
    ),
    Row(
        "what is being prepared cannot be launched again",
        ("launch", "--name", "vm1"),
        answer="being prepared",
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"prepare_seconds": 600},
    ),
    Row(
        "what is being prepared says so when asked for a snapshot",
        ("get", "local.vm1.none.name"),
        answer="snapshot settings",
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"prepare_seconds": 600},
    ),
    Row(
        "what is not there says that instead",
        ("get", "local.nobody-has-this.none.name"),
        answer="snapshot settings",
    ),
    # --- the daemon
    Row(
        "a stopped daemon is 2 and a text",
        ("list", "--format", "json"),
        answer="daemon down",
        faults={"daemon": "down"},
    ),
    Row("an unavailable daemon is 3", ("info", "vm1"), answer="daemon unavailable", faults={"daemon": "unavailable"}),
    Row(
        "the version is told without a daemon",
        ("version", "--format", "json"),
        source="src/client/cli/cmd/version.cpp",
        stdout={"multipass": str},
        faults={"daemon": "down"},
    ),
    Row(
        "the version", ("version",), source="src/client/cli/cmd/version.cpp", stdout=re.compile(r"multipass\s+\d+\.\d+")
    ),
    Row(
        "an unknown command",
        ("lunch",),
        code=1,
        source="src/client/cli/argparser.cpp",
        stdout=re.compile(r"Error: Unknown command or alias 'lunch'"),
    ),
    # --- info and list
    Row("info of a running instance", ("info", "vm1", "--format", "json"), source=JSON, stdout=INFO_RUNNING, given=VM),
    Row(
        "info of a stopped instance",
        ("info", "vm1", "--format", "json"),
        source=JSON,
        stdout=INFO_STOPPED,
        given=STOPPED,
    ),
    Row("info of what is not there", ("info", "nobody-has-this", "--format", "json"), answer="absent", stdout=""),
    Row("a list of nothing", ("list", "--format", "json"), source=JSON, stdout={"list": []}, only_fake=True),
    Row(
        "list of a running instance",
        ("list", "--format", "json"),
        source=JSON,
        stdout=listed("Running", [address]),
        given=VM,
        only_fake=True,
    ),
    Row(
        "list of a stopped instance",
        ("list", "--format", "json"),
        source=JSON,
        stdout=listed("Stopped", []),
        given=STOPPED,
        only_fake=True,
    ),
    Row(
        "list of a deleted instance",
        ("list", "--format", "json"),
        source=JSON,
        stdout=listed("Deleted", []),
        given=DELETED,
        only_fake=True,
    ),
    Row(
        "list of one that starts",
        ("list", "--format", "json"),
        source="src/client/cli/formatter/format_utils.cpp status_string_for",
        stdout=listed("Starting", []),
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"boot_seconds": 600},
    ),
    Row(
        "an instance without an address shows N/A",
        ("list", "--format", "json"),
        source=f"{DAEMON} list, src/daemon/runtime_instance_info_helper.cpp",
        stdout=listed("Running", ["N/A"]),
        given=VM,
        faults={"address_seconds": 600},
    ),
    Row("a format that is none", ("list", "--format", "xml"), answer="bad format"),
    Row("list takes no names", ("list", "vm1"), answer="no arguments"),
    # --- exec
    Row(
        "exec ends as the command does",
        ("exec", "vm1", "--", "sh", "-c", "exit 33"),
        code=33,
        source="tests/cli/cli_exec_test.py on main",
        given=VM,
    ),
    Row(
        "exec starts a stopped instance",
        ("exec", "vm1", "--", "true"),
        source="src/client/cli/cmd/exec.cpp on_failure",
        given=STOPPED,
    ),
    Row("exec without a command", ("exec", "vm1"), answer="exec arguments"),
    Row(
        "exec while sshd lets nobody in",
        ("exec", "vm1", "--", "true"),
        answer="exec refused",
        given=VM,
        faults={"ssh_seconds": 600},
    ),
    Row(
        "exec in an unknown state",
        ("exec", "vm1", "--", "true"),
        answer="exec unknown",
        given=VM,
        faults={"states": {"vm1": "Unknown"}},
    ),
    Row("exec in what is not there", ("exec", "nobody-has-this", "--", "true"), answer="absent"),
    # --- start, stop, suspend
    Row(
        "stop twice",
        ("stop", "vm1"),
        source="base_virtual_machine.cpp check_state_for_shutdown: idempotent",
        given=STOPPED,
    ),
    Row("start twice", ("start", "vm1"), source=f"{DAEMON} start", given=VM),
    Row(
        "start gives up waiting with 5",
        ("start", "vm1", "--timeout", "1"),
        answer="start timed out",
        given=STOPPED,
        faults={"boot_seconds": 2},
    ),
    Row(
        "start of one that is deleted",
        ("start", "vm1"),
        answer="start deleted",
        given=DELETED,
    ),
    Row(
        "start in an unknown state",
        ("start", "vm1"),
        answer="start unknown",
        given=VM,
        faults={"states": {"vm1": "Unknown"}},
    ),
    Row(
        "stop of a suspended instance",
        ("stop", "vm1"),
        answer="stop suspended",
        given=(*VM, ("suspend", "vm1")),
    ),
    Row("start of what is not there", ("start", "nobody-has-this"), answer="start absent"),
    *(
        Row(f"{verb} of what is not there", (verb, "nobody-has-this"), answer="absent")
        for verb in ("stop", "suspend", "delete", "recover")
    ),
    *(Row(f"{verb} without a name", (verb,), answer="name or all") for verb in ("delete", "recover")),
    # --- delete
    Row("delete twice", ("delete", "vm1"), source=f"{DAEMON} delete_vm", given=DELETED),
    Row("delete --purge of one that is deleted", ("delete", "--purge", "vm1"), source=CLI_TESTS, given=DELETED),
    Row("recover of one that is not deleted", ("recover", "vm1"), source=f"{DAEMON} recover", given=VM),
    # --- settings
    Row("cpus", ("get", "local.vm1.cpus"), source=SETTINGS, stdout="2", given=VM),
    Row(
        "memory, rounded",
        ("get", "local.vm1.memory"),
        source="src/utils/memory_size.cpp human_readable",
        stdout="2.0GiB",
        given=VM,
    ),
    Row(
        "disk, rounded",
        ("get", "local.vm1.disk"),
        source="src/utils/memory_size.cpp human_readable",
        stdout="10.0GiB",
        given=VM,
    ),
    Row("settings of what is not there", ("get", "local.nobody-has-this.cpus"), answer="instance settings"),
    Row("a setting that is none", ("get", "nonsense"), answer="client key"),
    Row(
        "a running instance is not resized",
        ("set", "local.vm1.cpus=3"),
        answer="must be stopped",
        given=VM,
    ),
    Row(
        "a stopped instance is",
        ("set", "local.vm1.memory=3G"),
        source="tests/cli/cli_vm_resource_test.py on main",
        given=STOPPED,
    ),
    Row(
        "a disk grows", ("set", "local.vm1.disk=11G"), source="tests/cli/cli_vm_resource_test.py on main", given=STOPPED
    ),
    Row(
        "a disk does not shrink",
        ("set", "local.vm1.disk=9G"),
        answer="disk shrinks",
        given=STOPPED,
    ),
    Row("a setting without a value", ("set", "=1"), answer="set form"),
    # --- mounts
    Row("a folder is mounted", ("mount", "/usr", "vm1:/x"), source=f"{DAEMON} mount", given=VM, only_fake=True),
    Row(
        "it is mounted once",
        ("mount", "/etc", "vm1:/x"),
        answer="mounted already",
        given=(*VM, ("mount", "/usr", "vm1:/x")),
        only_fake=True,
    ),
    Row("nothing is mounted over the system", ("mount", "/usr", "vm1:/proc/x"), answer="mount target", given=VM),
    Row(
        "a folder that is not there is not mounted",
        ("mount", "/no/such/folder", "nobody-has-this:/x"),
        answer="mount source",
    ),
    Row("umount of what is not mounted", ("umount", "vm1:/x"), answer="not mounted", given=VM),
    # --- transfer
    Row(
        "a file arrives from stdin",
        ("transfer", "-", "vm1:/motd"),
        source="src/client/cli/cmd/transfer.cpp",
        given=VM,
        stdin="hi",
        only_fake=True,
    ),
    Row("transfer of one thing", ("transfer", "x"), answer="not enough arguments"),
    Row("transfer between no instances", ("transfer", "x", "y"), answer="transfer nowhere"),
    # --- snapshots
    Row(
        "a snapshot",
        ("snapshot", "vm1"),
        source="src/client/cli/cmd/snapshot.cpp",
        stdout="Snapshot taken: vm1.snapshot1",
        given=STOPPED,
    ),
    Row("no snapshot of a running instance", ("snapshot", "vm1"), answer="snapshot running", given=VM),
    Row(
        "restore",
        ("restore", "-d", "vm1.snapshot1"),
        source="src/client/cli/cmd/restore.cpp",
        stdout="Snapshot restored: vm1.snapshot1",
        given=SNAPPED,
    ),
    Row(
        "restore of no snapshot",
        ("restore", "-d", "vm1.nope"),
        answer="snapshot absent",
        given=STOPPED,
    ),
    # --- what nothing above has asked for
    Row("access denied", ("list",), answer="socket denied", faults={"daemon": "denied"}),
    Row(
        "somebody the daemon does not know", ("info", "vm1"), answer="not authenticated", faults={"daemon": "stranger"}
    ),
    Row("an option without its value", ("launch", "--name"), answer="missing value"),
    Row("names and all", ("stop", "vm1", "--all"), answer="name and all"),
    Row("too little disk", ("launch", "--name", "vm1", "--disk", "100M"), answer="bad disk"),
    Row("exec in one that is deleted", ("exec", "vm1", "--", "true"), answer="deleted", given=DELETED),
    Row(
        "exec of no such program", ("exec", "vm1", "--", "no-such-program-anywhere"), answer="no such command", given=VM
    ),
    Row("start while suspending", ("start", "vm1"), answer="start suspending", given=VM, faults=stuck("Suspending")),
    Row("stop while starting", ("stop", "vm1"), answer="stop starting", given=VM, faults=stuck("Starting")),
    Row("stop while restarting", ("stop", "vm1"), answer="stop starting", given=VM, faults=stuck("Restarting")),
    Row("stop while suspending", ("stop", "vm1"), answer="stop suspending", given=VM, faults=stuck("Suspending")),
    Row(
        "stop --force in an unknown state",
        ("stop", "--force", "vm1"),
        source=f"{DAEMON} switch_off_vm",
        given=VM,
        faults=stuck("Unknown"),
    ),
    *(
        Row(
            f"list of one that is {state}",
            ("list", "--format", "json"),
            source="src/client/cli/formatter/format_utils.cpp status_string_for",
            stdout=listed(state, []),
            given=VM,
            faults=stuck(state),
        )
        for state in ("Restarting", "Suspending", "Suspended", "Delayed Shutdown", "Unknown")
    ),
    Row("two settings at once", ("get", "local.driver", "local.passphrase"), answer="get many"),
    Row("no setting", ("get",), answer="get none"),
    Row("nothing to set", ("set",), answer="set one"),
    Row("a daemon's setting that is none", ("get", "local.vm1.colour"), answer="daemon key"),
    Row("a size that is none", ("set", "local.vm1.memory=much"), answer="bad value", given=STOPPED),
    Row("no cpus", ("set", "local.vm1.cpus=0"), answer="cpus minimum", given=STOPPED),
    Row(
        "too little memory for one that is there",
        ("set", "local.vm1.memory=64M"),
        answer="memory minimum",
        given=STOPPED,
    ),
    Row("a snapshot's settings", ("get", "local.vm1.nope.name"), answer="snapshot settings absent", given=STOPPED),
    Row("only folders are mounted", ("mount", "/etc/hosts", "nobody-has-this:/x"), answer="mount no folder"),
    Row(
        "nothing is mounted in what is not there",
        ("mount", "/usr", "nobody-has-this:/x"),
        answer="mount absent",
        only_fake=True,
    ),
    Row("mount of one thing", ("mount", "/usr"), answer="not enough arguments"),
    Row("transfer of streams", ("transfer", "-", "x", "vm1:/y"), answer="transfer streams"),
    Row("transfer from one to another", ("transfer", "vm1:/x", "vm2:/y"), answer="transfer twice"),
    Row(
        "transfer to one that is stopped",
        ("transfer", "-", "vm1:/x"),
        answer="transfer stopped",
        given=STOPPED,
        only_fake=True,
    ),
    Row(
        "snapshots where there are none",
        ("snapshot", "vm1"),
        answer="no snapshots here",
        given=STOPPED,
        faults={"no_snapshots": True},
    ),
    Row("a snapshot of nothing", ("snapshot",), answer="snapshot what"),
    Row("a snapshot with a bad name", ("snapshot", "--name", "a.b", "vm1"), answer="snapshot name", given=STOPPED),
    Row("a snapshot of that name", ("snapshot", "--name", "snapshot1", "vm1"), answer="snapshot taken", given=SNAPPED),
    Row(
        "a snapshot with a name and a comment",
        ("snapshot", "--name", "before-it", "--comment", "two words", "vm1"),
        source="src/client/cli/cmd/snapshot.cpp",
        stdout="Snapshot taken: vm1.before-it",
        given=STOPPED,
    ),
    Row(
        "a list of snapshots",
        ("list", "--snapshots", "--format", "json"),
        source=f"{JSON} generate_snapshots_list",
        stdout={"errors": [], "info": {"vm1": {"snapshot1": {"comment": "", "parent": ""}}}},
        given=SNAPPED,
        only_fake=True,
    ),
    Row(
        "a list of no snapshots",
        ("list", "--snapshots", "--format", "json"),
        source=f"{JSON} generate_snapshots_list",
        stdout={"errors": [], "info": {}},
        given=STOPPED,
        only_fake=True,
    ),
    Row("a snapshot is purged", ("delete", "--purge", "vm1.snapshot1"), source=f"{DAEMON} delet", given=SNAPPED),
    Row("a snapshot is only purged", ("delete", "vm1.snapshot1"), answer="snapshot not purged", given=SNAPPED),
    Row("a snapshot that is not there", ("delete", "--purge", "vm1.nope"), answer="snapshot absent", given=STOPPED),
    Row(
        "a snapshot of one that is deleted",
        ("delete", "--purge", "vm1.snapshot1"),
        answer="snapshot of deleted",
        given=(*SNAPPED, ("delete", "vm1")),
    ),
    Row("an instance goes with its snapshots", ("delete", "--purge", "vm1"), source=f"{DAEMON} delet", given=SNAPPED),
    Row("restore of nothing", ("restore",), answer="restore what"),
    Row("restore without a snapshot", ("restore", "vm1"), answer="restore form"),
    Row(
        "restore of one that runs",
        ("restore", "-d", "vm1.snapshot1"),
        answer="restore running",
        given=(*SNAPPED, ("start", "vm1")),
    ),
    Row("restore that has to ask", ("restore", "vm1.snapshot1"), answer="restore unasked", given=SNAPPED),
]


def check(row: Row, ran: subprocess.CompletedProcess[str]) -> None:
    """It ended as the row says; of an answer every word that is not of the case at hand has to be there."""
    code = ANSWERS[row.answer].code if row.answer else row.code
    assert ran.returncode == code, ran.stdout + ran.stderr
    if row.answer:
        text = re.escape(ANSWERS[row.answer].stderr.strip()).replace(r"\{command\}", row.command[0])
        assert re.search(re.sub(r"\\{\w+\\}", ".*", text), ran.stderr), ran.stderr
    if isinstance(row.stdout, dict):
        assert_shape(json.loads(ran.stdout), row.stdout)
    elif isinstance(row.stdout, re.Pattern):
        assert row.stdout.search(ran.stdout), ran.stdout
    elif row.stdout is not None:
        assert ran.stdout.strip() == row.stdout


def assert_shape(value: Any, shape: Any, at: str = "$") -> None:
    """Equal, or of that type, or what that function says yes to; dictionaries have these keys and no others."""
    if isinstance(shape, dict):
        assert sorted(value) == sorted(shape), at
        for key in shape:
            assert_shape(value[key], shape[key], f"{at}.{key}")
    elif isinstance(shape, list):
        assert len(value) == len(shape), at
        for i, (one, other) in enumerate(zip(value, shape, strict=True)):
            assert_shape(one, other, f"{at}[{i}]")
    elif isinstance(shape, type):
        assert isinstance(value, shape), at
    elif isinstance(shape, Callable):
        assert shape(value), at
    else:
        assert value == shape, at


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_the_fake(row: Row, tmp_path: Path) -> None:
    fake = FakeMultipass(tmp_path)
    needs_fault = any("--timeout" in words for words in row.given)
    if needs_fault:
        fake.faults(**row.faults)
    for words in row.given:
        assert fake.run(*words).returncode in ((0, 5) if needs_fault else (0,))
    fake.faults(**row.faults)
    check(row, fake.run(*row.command, stdin=row.stdin))


CHANGES = {"launch", "start", "stop", "suspend", "delete", "recover", "set", "mount", "exec", "snapshot", "restore"}
"""Commands after whose success an instance is no longer as it was."""


def failures_of(run: Callable[..., subprocess.CompletedProcess[str]], instance: str) -> list[str]:
    """Ask a Multipass, the real one perhaps, every row that it can be asked; what it does otherwise.

    One instance is made, brought to what each row needs, and removed in the end.
    """
    failures: list[str] = []
    now: Commands | None = None
    for row in sorted((row for row in ROWS if row.for_real), key=lambda row: row.given):
        command, given = row.named(instance)
        if now != given:
            run("delete", "--purge", instance)
            for words in given:
                run(*words)
        now = given
        ran = run(*command, stdin=row.stdin)
        if ran.returncode == 0 and command[0] in CHANGES:
            now = None
        shown = re.sub(rf"\b{instance}\b", "vm1", ran.stdout)
        try:
            check(row, subprocess.CompletedProcess(command, ran.returncode, shown, ran.stderr))
        except AssertionError as error:
            failures.append(f"{row.name}: {error}")
    run("delete", "--purge", instance)
    return failures


def test_the_fake_is_asked_as_the_real_one_would_be(tmp_path: Path) -> None:
    """So that the test of the real one can be trusted to ask sensible things."""
    fake = FakeMultipass(tmp_path)
    fake.run("launch", "--name", "someone-elses")
    assert failures_of(fake.run, INSTANCE) == []
    assert list(fake.instances) == ["someone-elses"]
    fake.faults(fail={"snapshot": [2, "snapshot failed: another text\n"]})
    assert any(failure.startswith("no snapshot of a running instance") for failure in failures_of(fake.run, INSTANCE))


@pytest.mark.skipif(
    os.environ.get("MULTIPASS_CONTRACT") != "real" or shutil.which("multipass") is None,
    reason="needs a real multipass on PATH and MULTIPASS_CONTRACT=real",
)
def test_the_real_one() -> None:
    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(["multipass", *words], input=stdin, capture_output=True, text=True, timeout=900)

    listed = json.loads(run("list", "--format", "json").stdout)["list"]
    assert INSTANCE not in [one["name"] for one in listed], f"there is an instance {INSTANCE}; it would be removed"
    failures = failures_of(run, INSTANCE)
    assert not failures, "\n".join(failures)


def test_every_answer_is_asked_for_and_every_row_has_a_source() -> None:
    assert set(ANSWERS) == {row.answer for row in ROWS if row.answer}
    assert [row.name for row in ROWS if bool(row.source) == bool(row.answer)] == []


def test_what_was_transferred_is_there(tmp_path: Path) -> None:
    fake = FakeMultipass(tmp_path)
    fake.run(*VM[0])
    fake.run("transfer", "-", "vm1:/motd", stdin="hello")
    assert fake.run("exec", "vm1", "--", "cat", "/motd").stdout == "hello"
    assert fake.run("transfer", "vm1:/motd", "-").stdout == "hello"


def test_purge_takes_all_that_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    fake = FakeMultipass(tmp_path)
    for name in ("one", "two", "three"):
        fake.run("launch", "--name", name)
    fake.run("delete", "one", "two")
    fake.run("purge")
    assert sorted(fake.instances) == ["three"]
