"""What Multipass 1.16.3 says when it does not do as it is told: one table, from which the fake answers and which its contract test asks.

Each answer has the exit code, the text on stderr, and where both were read in canonical/multipass at tag v1.16.3. Words in braces are of
the case at hand. `{command} failed: …` is what `standard_failure_handler_for` of src/client/common/client_common.cpp prints, with exit
code 2; what a command line is refused for before the daemon is asked is exit code 1 (`ParseCode::CommandLineError`).
"""

from __future__ import annotations

from dataclasses import dataclass

OK, COMMAND_LINE, FAILED, DAEMON, TIMEOUT = 0, 1, 2, 3, 5
"""include/multipass/cli/return_codes.h, and timeout_exit_code of include/multipass/constants.h."""

CLI = "src/client/cli/cmd"
DAEMON_CPP = "src/daemon/daemon.cpp"
INSTANCE_SETTINGS = "src/daemon/instance_settings_handler.cpp"
SNAPSHOT_SETTINGS = "src/daemon/snapshot_settings_handler.cpp"
VIRTUAL_MACHINE = "src/platform/backends/shared/base_virtual_machine.cpp"
DISPATCH = "include/multipass/cli/command.h dispatch"
SNAPSHOT_ERRORS = "include/multipass/exceptions/snapshot_exceptions.h"
SETTINGS_ERRORS = "include/multipass/exceptions/settings_exceptions.h"
SELECTION = f"{DAEMON_CPP} grpc_status_for: 'The following errors occurred:' in front"
UNCAUGHT = "include/multipass/top_catch_all.h: a runtime_error thrown in the client"


@dataclass(frozen=True)
class Answer:
    """How a command ends: its exit code, what it says on stderr, and where that was read."""

    code: int
    stderr: str
    source: str


def _failed(text: str, source: str, details: str = "") -> Answer:
    return Answer(FAILED, f"{{command}} failed: {text}\n{details and details + chr(10)}", source)


def _selection(text: str, source: str) -> Answer:
    return _failed(f"The following errors occurred:\n{text}", f"{source}; {SELECTION}")


def _usage(text: str, source: str) -> Answer:
    return Answer(COMMAND_LINE, f"{text}\n", source)


def _uncaught(text: str, source: str) -> Answer:
    text = f"[error] [client] Caught an unhandled exception: {text}\n"
    return Answer(COMMAND_LINE, text, f"{source}; {UNCAUGHT}")


ANSWERS: dict[str, Answer] = {
    # --- the daemon
    "daemon down": _failed("cannot connect to the multipass socket", f"{DISPATCH}: UNAVAILABLE becomes NOT_FOUND"),
    "daemon unavailable": Answer(
        DAEMON,
        "{command} failed: cannot connect to the multipass socket\n",
        "src/client/common/client_common.cpp return_code_for: UNAVAILABLE is DaemonFail",
    ),
    "socket denied": _failed("multipass socket access denied", f"{DISPATCH}: SocketAccessError"),
    "not authenticated": _failed(
        "The client is not authenticated with the Multipass service.\nPlease use 'multipass authenticate' before proceeding.",
        "src/daemon/daemon_rpc.cpp verify_client_and_dispatch_operation",
    ),
    # --- any command
    "unknown option": _usage("Unknown option '{option}'.", "src/client/cli/argparser.cpp"),
    "missing value": _usage("Missing value after '{option}'.", "src/client/cli/argparser.cpp, QCommandLineParser"),
    "name or all": _usage(
        "Name argument or --all is required", f"{CLI}/common_cli.cpp check_for_name_and_all_option_conflict"
    ),
    "name and all": _usage(
        "Cannot specify name{s} when --all option set", f"{CLI}/common_cli.cpp check_for_name_and_all_option_conflict"
    ),
    "no arguments": _usage("This command takes no arguments", f"{CLI}/list.cpp, version.cpp, purge.cpp parse_args"),
    "too many arguments": _usage("Too many arguments supplied", f"{CLI}/launch.cpp, snapshot.cpp parse_args"),
    "not enough arguments": _usage(
        "Not enough arguments given", f"{CLI}/mount.cpp, umount.cpp, transfer.cpp parse_args"
    ),
    "bad format": _usage("Invalid format type given.", f"{CLI}/common_cli.cpp handle_format_option"),
    "deleted": _selection('instance "{name}" is deleted', f"{DAEMON_CPP} require_operative_instances_reaction"),
    "absent": _selection(
        'instance "{name}" does not exist', f"{DAEMON_CPP} require_operative_, require_existing_instances_reaction"
    ),
    # --- launch
    "bad cpus": _usage(
        "Error: invalid CPU count '{cpus}', need a positive integer value.", f"{CLI}/launch.cpp parse_args"
    ),
    "launch mount source": _usage('Mount source path "{path}" does not exist', f"{CLI}/launch.cpp parse_args"),
    "bad timeout": _usage("error: --timeout value has to be a positive integer", f"{CLI}/common_cli.cpp parse_timeout"),
    "bad cloud-init": _usage("Could not load cloud-init configuration: {details}", f"{CLI}/launch.cpp parse_args"),
    "bad memory": _failed(
        "Invalid arguments supplied",
        f"{DAEMON_CPP} validate_create_arguments, {CLI}/launch.cpp on_failure",
        "Invalid memory size value supplied: {size}.",
    ),
    "bad disk": _failed(
        "Invalid arguments supplied",
        f"{DAEMON_CPP} validate_create_arguments, {CLI}/launch.cpp on_failure",
        "Invalid disk size value supplied: {size}.",
    ),
    "bad name": _failed(
        "Invalid arguments supplied",
        f"{DAEMON_CPP} validate_create_arguments, src/utils/utils.cpp valid_hostname",
        "Invalid instance name supplied: {name}",
    ),
    "name taken": _selection(
        'instance "{name}" already exists',
        f"{DAEMON_CPP} require_missing_instances_reaction, of operative and of deleted instances",
    ),
    "being prepared": _failed('instance "{name}" is being prepared', f"{DAEMON_CPP} create_vm"),
    "launch timed out": Answer(
        TIMEOUT, "Timed out waiting for instance launch.\n", f"{CLI}/launch.cpp, common_cli.cpp make_timer"
    ),
    "initialization timed out": _selection(
        "timed out waiting for initialization to complete", f"{VIRTUAL_MACHINE} wait_for_cloud_init"
    ),
    # --- exec
    "exec arguments": _usage("Wrong number of arguments", f"{CLI}/exec.cpp parse_args"),
    "exec unknown": _failed("Cannot retrieve credentials in unknown state", f"{DAEMON_CPP} get_ssh_info_for_vm"),
    "exec refused": _failed("ssh connection failed: 'Connection refused'", f"{CLI}/exec.cpp exec_success"),
    "no such command": Answer(
        127,
        "bash: line 1: {program}: command not found\n",
        "tests/cli/cli_exec_test.py on main: the machine's own shell",
    ),
    # --- start, stop, suspend
    "start absent": _failed(
        "instance(s) missing", f"{CLI}/start.cpp absent_error_fmt", "Instance '{name}' does not exist."
    ),
    "start deleted": _failed(
        "instance(s) missing",
        f"{CLI}/start.cpp deleted_error_fmt",
        "Instance '{name}' is deleted. Use 'recover' to recover it or 'purge' to permanently delete it.",
    ),
    "start unknown": _selection(
        "Instance '{name}' is already running, but in an unknown state.\nTry to stop it first.", f"{DAEMON_CPP} start"
    ),
    "start suspending": _selection("Cannot start the instance '{name}' while suspending.", f"{DAEMON_CPP} start"),
    "start timed out": Answer(TIMEOUT, "Timed out waiting for instance to start.\n", f"{CLI}/start.cpp run"),
    "stop starting": _failed(
        "Cannot shut down instance {name} while starting.",
        f"{VIRTUAL_MACHINE} check_state_for_shutdown, {CLI}/stop.cpp on_failure",
        "Use --force to power it off.",
    ),
    "stop suspending": _failed(
        "Cannot shut down instance {name} while suspending.",
        f"{VIRTUAL_MACHINE} check_state_for_shutdown, {CLI}/stop.cpp on_failure",
        "Use --force to power it off.",
    ),
    "stop suspended": _failed(
        "Cannot shut down suspended instance {name}.",
        f"{VIRTUAL_MACHINE} check_state_for_shutdown, {CLI}/stop.cpp on_failure",
        "Use --force to power it off.",
    ),
    # --- settings
    "get many": _usage("Need at most one setting key.", f"{CLI}/get.cpp parse_args"),
    "get none": _usage(
        "Multiple settings not implemented yet. Please try again with one setting key or just the `--keys` option for now.",
        f"{CLI}/get.cpp parse_args",
    ),
    "set one": _usage("Need exactly one key-value pair (in <key>=<value> form).", f"{CLI}/set.cpp parse_args"),
    "set form": _usage("Bad key-value format.", f"{CLI}/set.cpp parse_args"),
    "client key": _usage("Unrecognized settings key: '{key}'", f"{SETTINGS_ERRORS} UnrecognizedSettingException"),
    "daemon key": _failed("Unrecognized settings key: '{key}'", f"{SETTINGS_ERRORS} UnrecognizedSettingException"),
    "instance settings": _failed(
        "{operation}; instance: {name}; reason: {reason}", f"{INSTANCE_SETTINGS} pick_instance, set"
    ),
    "must be stopped": _failed(
        "Cannot update instance settings; instance: {name}; reason: Instance must be stopped for modification",
        f"{INSTANCE_SETTINGS} check_state_for_update",
    ),
    "bad value": _failed("Invalid setting '{key}={value}': {reason}", f"{INSTANCE_SETTINGS} get_memory_size"),
    "cpus minimum": _failed(
        "Invalid setting '{key}={value}': Need a positive integer (in decimal format) of minimum 1",
        f"{INSTANCE_SETTINGS} update_cpus",
    ),
    "memory minimum": _failed(
        "Invalid setting '{key}={value}': Memory less than 128M minimum not allowed", f"{INSTANCE_SETTINGS} update_mem"
    ),
    "disk shrinks": _failed(
        "Invalid setting '{key}={value}': Disk can only be expanded", f"{INSTANCE_SETTINGS} update_disk"
    ),
    "snapshot settings": _failed(
        "Cannot access snapshot settings; instance: {name}; reason: {reason}", f"{SNAPSHOT_SETTINGS} find_instance"
    ),
    "snapshot settings absent": _failed(
        "Cannot access snapshot settings; reason: No such snapshot: {name}.{snapshot}",
        f"{SNAPSHOT_SETTINGS} find_snapshot",
    ),
    # --- mounts, transfer
    "mount source": _usage('Source path "{path}" does not exist', f"{CLI}/mount.cpp parse_args"),
    "mount no folder": _usage('Source path "{path}" is not a directory', f"{CLI}/mount.cpp parse_args"),
    "mount absent": _selection("instance '{name}' does not exist", f"{DAEMON_CPP} mount, umount"),
    "mount target": _selection('unable to mount to "{path}"', "src/utils/utils.cpp invalid_target_path"),
    "mounted already": _selection("\"{path}\" is already mounted in '{name}'", f"{DAEMON_CPP} mount"),
    "not mounted": _selection("path \"{path}\" is not mounted in '{name}'", f"{DAEMON_CPP} umount"),
    "transfer streams": _usage("Only two arguments allowed when using '-'", f"{CLI}/transfer.cpp parse_args"),
    "transfer nowhere": _usage(
        "An instance name is needed for either source or destination", f"{CLI}/transfer.cpp parse_args"
    ),
    "transfer twice": _usage(
        "Cannot specify an instance name for both source and destination", f"{CLI}/transfer.cpp parse_args"
    ),
    "transfer stopped": _failed('instance "{name}" is not running', f"{DAEMON_CPP} get_ssh_info_for_vm"),
    # --- snapshots
    "no snapshots here": _failed(
        "The snapshots feature is not implemented on this backend.",
        "include/multipass/exceptions/not_implemented_on_this_backend_exception.h",
    ),
    "snapshot what": _usage("Need the name of an instance to snapshot.", f"{CLI}/snapshot.cpp parse_args"),
    "snapshot running": _failed("Multipass can only take snapshots of stopped instances.", f"{DAEMON_CPP} snapshot"),
    "snapshot name": _failed('Invalid snapshot name: "{snapshot}".', f"{DAEMON_CPP} snapshot"),
    "snapshot taken": _failed(
        "Snapshot already exists: {name}.{snapshot}", f"{SNAPSHOT_ERRORS} SnapshotNameTakenException"
    ),
    "snapshot absent": _failed("No such snapshot: {name}.{snapshot}", f"{SNAPSHOT_ERRORS} NoSuchSnapshotException"),
    "snapshot of deleted": _failed(
        "Cannot delete snapshots of deleted instances: {name}.{snapshot}", f"{DAEMON_CPP} verify_snapshot_picks"
    ),
    "snapshot not purged": _uncaught(
        "Snapshots can only be purged (after deletion, they cannot be recovered). Unable to query client for confirmation. "
        "Please use the `--purge` flag if that is what you want.",
        f"{CLI}/delete.cpp generate_snapshot_purge_msg",
    ),
    "restore what": _usage("Need the name of an instance and snapshot to restore.", f"{CLI}/restore.cpp parse_args"),
    "restore form": _usage(
        "Invalid format. Please specify the instance to restore and snapshot to use in the form <instance>.<snapshot>.",
        f"{CLI}/restore.cpp parse_args",
    ),
    "restore running": _failed("Multipass can only restore snapshots of stopped instances.", f"{DAEMON_CPP} restore"),
    "restore unasked": _uncaught(
        "Unable to query client for confirmation. Use '--destructive' to automatically discard current machine state.",
        f"{CLI}/restore.cpp streaming_callback",
    ),
}
