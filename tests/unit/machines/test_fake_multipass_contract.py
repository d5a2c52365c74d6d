"""Holds the fake `multipass` to what is written in canonical/multipass at v1.16.3: one row per behaviour, each with its source.

With `MULTIPASS_CONTRACT=real` and a real `multipass` on PATH, the rows that touch no instance are run against that one as well.
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

from tests.fakes.multipass_world import FakeMultipass

Commands = tuple[tuple[str, ...], ...]
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
    """After `given`, and with `faults`, the command line ends with `code`; stdout is, or has the shape of, `stdout`."""

    name: str
    command: tuple[str, ...]
    code: int
    source: str
    stderr: str = ""
    stdout: Any = None
    given: Commands = ()
    faults: Mapping[str, Any] = field(default_factory=dict)
    stdin: str = ""
    real: bool = False


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


ROWS = [
    # --- launch
    Row("launch ends when cloud-init has ended", VM[0], 0, LAUNCH, stdout="Launched: vm1"),
    Row(
        "launch gives up waiting with 5",
        ("launch", "--name", "vm1", "--timeout", "1"),
        5,
        f"{COMMON} make_timer, include/multipass/constants.h timeout_exit_code",
        stderr="Timed out waiting for instance launch.",
        faults={"init_seconds": 600},
    ),
    Row(
        "the daemon gives up waiting for cloud-init with 2",
        ("launch", "--name", "vm1"),
        2,
        "src/platform/backends/shared/base_virtual_machine.cpp wait_for_cloud_init",
        stderr="timed out waiting for initialization to complete",
        faults={"init_seconds": 600, "init_timeout": 0.1},
    ),
    Row(
        "a name that is taken",
        ("launch", "--name", "vm1"),
        2,
        f"{DAEMON} require_missing_instances_reaction",
        stderr='launch failed: The following errors occurred:\ninstance "vm1" already exists',
        given=VM,
    ),
    Row(
        "a name that is deleted but not purged",
        ("launch", "--name", "vm1"),
        2,
        f"{DAEMON} require_missing_instances_reaction",
        stderr='instance "vm1" already exists',
        given=DELETED,
    ),
    Row(
        "no processors",
        ("launch", "--cpus", "0"),
        1,
        f"{LAUNCH} parse_args",
        stderr="Error: invalid CPU count '0', need a positive integer value.",
        real=True,
    ),
    Row(
        "too little memory",
        ("launch", "--name", "vm1", "--memory", "64M"),
        2,
        f"{DAEMON} validate_create_arguments, {LAUNCH} on_failure",
        stderr="launch failed: Invalid arguments supplied\nInvalid memory size value supplied: 64M.",
        real=True,
    ),
    Row(
        "a bad name",
        ("launch", "--name", "no_underscores"),
        2,
        f"{DAEMON} validate_create_arguments, src/utils/utils.cpp valid_hostname",
        stderr="Invalid instance name supplied: no_underscores",
        real=True,
    ),
    Row(
        "user-data that is not there",
        ("launch", "--cloud-init", "/no/such/file"),
        1,
        f"{LAUNCH} parse_args",
        stderr="Could not load cloud-init configuration: bad file: /no/such/file\nPlease ensure that Multipass can read it.",
        real=True,
    ),
    Row(
        "user-data on stdin that is no YAML",
        ("launch", "--cloud-init", "-"),
        1,
        f"{LAUNCH} parse_args",
        stdin="a: [",
        stderr="Could not load cloud-init configuration: ",
        real=True,
    ),
    Row(
        "a folder to mount that is not there",
        ("launch", "--mount", "/no/such/folder:/x"),
        1,
        f"{LAUNCH} parse_args",
        stderr='Mount source path "/no/such/folder" does not exist',
        real=True,
    ),
    Row(
        "no time at all",
        ("launch", "--timeout", "0"),
        1,
        f"{COMMON} parse_timeout",
        stderr="error: --timeout value has to be a positive integer",
        real=True,
    ),
    Row("two images", ("launch", "a", "b"), 1, f"{LAUNCH} parse_args", stderr="Too many arguments supplied", real=True),
    Row(
        "an unknown option",
        ("launch", "--ram", "1G"),
        1,
        "src/client/cli/argparser.cpp",
        stderr="Unknown option 'ram'.",
        real=True,
    ),
    # --- what is being prepared
    Row(
        "what is being prepared is in no list",
        ("list", "--format", "json"),
        0,
        f"{DAEMON} create_vm: operative_instances are set when the image is ready",
        stdout={"list": []},
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"prepare_seconds": 600},
    ),
    Row(
        "what is being prepared cannot be launched again",
        ("launch", "--name", "vm1"),
        2,
        f"{DAEMON} create_vm",
        stderr='launch failed: instance "vm1" is being prepared',
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"prepare_seconds": 600},
    ),
    Row(
        "what is being prepared says so when asked for a snapshot",
        ("get", "local.vm1.none.name"),
        2,
        "src/daemon/snapshot_settings_handler.cpp find_instance",
        stderr="get failed: Cannot access snapshot settings; instance: vm1; reason: instance is being prepared",
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"prepare_seconds": 600},
    ),
    Row(
        "what is not there says that instead",
        ("get", "local.nobody-has-this.none.name"),
        2,
        "src/daemon/snapshot_settings_handler.cpp find_instance",
        stderr="instance: nobody-has-this; reason: No such instance",
        real=True,
    ),
    # --- the daemon
    Row(
        "a stopped daemon is 2 and a text",
        ("list", "--format", "json"),
        2,
        "include/multipass/cli/command.h dispatch: UNAVAILABLE becomes NOT_FOUND; client_common.cpp return_code_for",
        stderr="list failed: cannot connect to the multipass socket",
        faults={"daemon": "down"},
    ),
    Row(
        "an unavailable daemon is 3",
        ("info", "vm1"),
        3,
        f"{RETURN_CODES} DaemonFail, src/client/common/client_common.cpp return_code_for",
        stderr="info failed: ",
        faults={"daemon": "unavailable"},
    ),
    Row(
        "the version is told without a daemon",
        ("version", "--format", "json"),
        0,
        "src/client/cli/cmd/version.cpp",
        stdout={"multipass": str},
        faults={"daemon": "down"},
    ),
    Row(
        "the version",
        ("version",),
        0,
        "src/client/cli/cmd/version.cpp",
        stdout=re.compile(r"multipass\s+\d+\.\d+"),
        real=True,
    ),
    Row(
        "an unknown command",
        ("lunch",),
        1,
        "src/client/cli/argparser.cpp",
        stdout=re.compile(r"Error: Unknown command or alias 'lunch'"),
        real=True,
    ),
    # --- info and list
    Row("info of a running instance", ("info", "vm1", "--format", "json"), 0, JSON, stdout=INFO_RUNNING, given=VM),
    Row("info of a stopped instance", ("info", "vm1", "--format", "json"), 0, JSON, stdout=INFO_STOPPED, given=STOPPED),
    Row(
        "info of what is not there",
        ("info", "nobody-has-this", "--format", "json"),
        2,
        f"{DAEMON} require_existing_instances_reaction",
        stderr='info failed: The following errors occurred:\ninstance "nobody-has-this" does not exist',
        stdout="",
        real=True,
    ),
    Row("a list of nothing", ("list", "--format", "json"), 0, JSON, stdout={"list": []}),
    Row(
        "list of a running instance",
        ("list", "--format", "json"),
        0,
        JSON,
        stdout=listed("Running", [address]),
        given=VM,
    ),
    Row(
        "list of a stopped instance", ("list", "--format", "json"), 0, JSON, stdout=listed("Stopped", []), given=STOPPED
    ),
    Row(
        "list of a deleted instance", ("list", "--format", "json"), 0, JSON, stdout=listed("Deleted", []), given=DELETED
    ),
    Row(
        "list of one that starts",
        ("list", "--format", "json"),
        0,
        "src/client/cli/formatter/format_utils.cpp status_string_for",
        stdout=listed("Starting", []),
        given=(("launch", "--name", "vm1", "--timeout", "1"),),
        faults={"boot_seconds": 600},
    ),
    Row(
        "an instance without an address shows N/A",
        ("list", "--format", "json"),
        0,
        f"{DAEMON} list, src/daemon/runtime_instance_info_helper.cpp",
        stdout=listed("Running", ["N/A"]),
        given=VM,
        faults={"address_seconds": 600},
    ),
    Row(
        "a format that is none", ("list", "--format", "xml"), 1, COMMON, stderr="Invalid format type given.", real=True
    ),
    Row(
        "list takes no names",
        ("list", "vm1"),
        1,
        "src/client/cli/cmd/list.cpp",
        stderr="This command takes no arguments",
        real=True,
    ),
    # --- exec
    Row(
        "exec ends as the command does",
        ("exec", "vm1", "--", "sh", "-c", "exit 33"),
        33,
        "tests/cli/cli_exec_test.py on main",
        given=VM,
    ),
    Row(
        "exec starts a stopped instance",
        ("exec", "vm1", "--", "true"),
        0,
        "src/client/cli/cmd/exec.cpp on_failure",
        given=STOPPED,
    ),
    Row(
        "exec without a command",
        ("exec", "vm1"),
        1,
        "src/client/cli/cmd/exec.cpp parse_args",
        stderr="Wrong number of arguments",
        real=True,
    ),
    Row(
        "exec while sshd lets nobody in",
        ("exec", "vm1", "--", "true"),
        2,
        "src/client/cli/cmd/exec.cpp exec_success (255 on main)",
        stderr="exec failed: ssh connection failed: ",
        given=VM,
        faults={"ssh_seconds": 600},
    ),
    Row(
        "exec in an unknown state",
        ("exec", "vm1", "--", "true"),
        2,
        f"{DAEMON} get_ssh_info_for_vm",
        stderr="Cannot retrieve credentials in unknown state",
        given=VM,
        faults={"states": {"vm1": "Unknown"}},
    ),
    Row(
        "exec in what is not there",
        ("exec", "nobody-has-this", "--", "true"),
        2,
        f"{DAEMON} require_operative_instances_reaction",
        stderr='instance "nobody-has-this" does not exist',
        real=True,
    ),
    # --- start, stop, suspend
    Row(
        "stop twice", ("stop", "vm1"), 0, "base_virtual_machine.cpp check_state_for_shutdown: idempotent", given=STOPPED
    ),
    Row("start twice", ("start", "vm1"), 0, f"{DAEMON} start", given=VM),
    Row(
        "start gives up waiting with 5",
        ("start", "vm1", "--timeout", "1"),
        5,
        "src/client/cli/cmd/start.cpp",
        stderr="Timed out waiting for instance to start.",
        given=STOPPED,
        faults={"boot_seconds": 2},
    ),
    Row(
        "start of one that is deleted",
        ("start", "vm1"),
        2,
        CLI_TESTS,
        stderr="Instance 'vm1' is deleted.",
        given=DELETED,
    ),
    Row(
        "start in an unknown state",
        ("start", "vm1"),
        2,
        f"{DAEMON} start",
        stderr="Instance 'vm1' is already running, but in an unknown state.",
        given=VM,
        faults={"states": {"vm1": "Unknown"}},
    ),
    Row(
        "stop of a suspended instance",
        ("stop", "vm1"),
        2,
        "base_virtual_machine.cpp check_state_for_shutdown, src/client/cli/cmd/stop.cpp",
        stderr="Cannot shut down suspended instance vm1.\nUse --force to power it off.",
        given=(*VM, ("suspend", "vm1")),
    ),
    *(
        Row(f"{verb} of what is not there", (verb, "nobody-has-this"), 2, CLI_TESTS, stderr="does not exist", real=True)
        for verb in ("start", "stop", "suspend", "delete", "recover")
    ),
    *(
        Row(f"{verb} without a name", (verb,), 1, COMMON, stderr="Name argument or --all is required", real=True)
        for verb in ("delete", "recover")
    ),
    # --- delete
    Row("delete twice", ("delete", "vm1"), 0, f"{DAEMON} delete_vm", given=DELETED),
    Row("delete --purge of one that is deleted", ("delete", "--purge", "vm1"), 0, CLI_TESTS, given=DELETED),
    Row("recover of one that is not deleted", ("recover", "vm1"), 0, f"{DAEMON} recover", given=VM),
    # --- settings
    Row("cpus", ("get", "local.vm1.cpus"), 0, SETTINGS, stdout="2", given=VM),
    Row(
        "memory, rounded",
        ("get", "local.vm1.memory"),
        0,
        "src/utils/memory_size.cpp human_readable",
        stdout="2.0GiB",
        given=VM,
    ),
    Row(
        "disk, rounded",
        ("get", "local.vm1.disk"),
        0,
        "src/utils/memory_size.cpp human_readable",
        stdout="10.0GiB",
        given=VM,
    ),
    Row(
        "settings of what is not there",
        ("get", "local.nobody-has-this.cpus"),
        2,
        SETTINGS,
        stderr="get failed: Cannot obtain instance settings; instance: nobody-has-this; reason: No such instance",
        real=True,
    ),
    Row(
        "a setting that is none",
        ("get", "nonsense"),
        1,
        "include/multipass/exceptions/settings_exceptions.h",
        stderr="Unrecognized settings key: 'nonsense'",
        real=True,
    ),
    Row(
        "a running instance is not resized",
        ("set", "local.vm1.cpus=3"),
        2,
        f"{SETTINGS} check_state_for_update",
        stderr="Cannot update instance settings; instance: vm1; reason: Instance must be stopped for modification",
        given=VM,
    ),
    Row(
        "a stopped instance is",
        ("set", "local.vm1.memory=3G"),
        0,
        "tests/cli/cli_vm_resource_test.py on main",
        given=STOPPED,
    ),
    Row("a disk grows", ("set", "local.vm1.disk=11G"), 0, "tests/cli/cli_vm_resource_test.py on main", given=STOPPED),
    Row(
        "a disk does not shrink",
        ("set", "local.vm1.disk=9G"),
        2,
        f"{SETTINGS} update_disk",
        stderr="set failed: Invalid setting 'local.vm1.disk=9G': Disk can only be expanded",
        given=STOPPED,
    ),
    Row(
        "a setting without a value",
        ("set", "=1"),
        1,
        "src/client/cli/cmd/set.cpp",
        stderr="Bad key-value format.",
        real=True,
    ),
    # --- mounts
    Row("a folder is mounted", ("mount", "/usr", "vm1:/x"), 0, f"{DAEMON} mount", given=VM),
    Row(
        "it is mounted once",
        ("mount", "/etc", "vm1:/x"),
        2,
        f"{DAEMON} mount",
        stderr="\"/x\" is already mounted in 'vm1'",
        given=(*VM, ("mount", "/usr", "vm1:/x")),
    ),
    Row(
        "nothing is mounted over the system",
        ("mount", "/usr", "vm1:/proc/x"),
        2,
        "src/utils/utils.cpp invalid_target_path",
        stderr='unable to mount to "/proc/x"',
        given=VM,
    ),
    Row(
        "a folder that is not there is not mounted",
        ("mount", "/no/such/folder", "nobody-has-this:/x"),
        1,
        "src/client/cli/cmd/mount.cpp",
        stderr='Source path "/no/such/folder" does not exist',
        real=True,
    ),
    Row(
        "umount of what is not mounted",
        ("umount", "vm1:/x"),
        2,
        f"{DAEMON} umount",
        stderr="path \"/x\" is not mounted in 'vm1'",
        given=VM,
    ),
    # --- transfer
    Row(
        "a file arrives from stdin",
        ("transfer", "-", "vm1:/motd"),
        0,
        "src/client/cli/cmd/transfer.cpp",
        stdin="hi",
        given=VM,
    ),
    Row(
        "transfer of one thing",
        ("transfer", "x"),
        1,
        "src/client/cli/cmd/transfer.cpp",
        stderr="Not enough arguments given",
        real=True,
    ),
    Row(
        "transfer between no instances",
        ("transfer", "x", "y"),
        1,
        "src/client/cli/cmd/transfer.cpp",
        stderr="An instance name is needed for either source or destination",
        real=True,
    ),
    # --- snapshots
    Row(
        "a snapshot",
        ("snapshot", "vm1"),
        0,
        "src/client/cli/cmd/snapshot.cpp",
        stdout="Snapshot taken: vm1.snapshot1",
        given=STOPPED,
    ),
    Row(
        "no snapshot of a running instance",
        ("snapshot", "vm1"),
        2,
        f"{DAEMON} snapshot",
        stderr="Multipass can only take snapshots of stopped instances.",
        given=VM,
    ),
    Row(
        "restore",
        ("restore", "-d", "vm1.snapshot1"),
        0,
        "src/client/cli/cmd/restore.cpp",
        stdout="Snapshot restored: vm1.snapshot1",
        given=SNAPPED,
    ),
    Row(
        "restore of no snapshot",
        ("restore", "-d", "vm1.nope"),
        2,
        "include/multipass/exceptions/snapshot_exceptions.h",
        stderr="No such snapshot: vm1.nope",
        given=STOPPED,
    ),
]


def check(row: Row, ran: subprocess.CompletedProcess[str]) -> None:
    assert (ran.returncode, row.stderr in ran.stderr) == (row.code, True), ran.stdout + ran.stderr
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


@pytest.mark.skipif(
    os.environ.get("MULTIPASS_CONTRACT") != "real" or shutil.which("multipass") is None,
    reason="needs a real multipass on PATH and MULTIPASS_CONTRACT=real",
)
def test_the_real_one() -> None:
    failures: list[str] = []
    for row in (row for row in ROWS if row.real):
        assert not row.given and not row.faults, f"{row.name}: a row for the real one needs nothing and breaks nothing"
        command = ["multipass", *row.command]
        try:
            check(row, subprocess.run(command, input=row.stdin, capture_output=True, text=True, timeout=120))
        except AssertionError as error:
            failures.append(f"{row.name}: {error}")
    assert not failures, "\n".join(failures)


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
