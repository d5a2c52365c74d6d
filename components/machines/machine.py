"""Machines as Pulumi components: a key pair for the stack, and one component per machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_command as command

from actions.machines.driver import MachineState
from actions.registry import DELETE, ENSURE, MAKE_SECRETS, UPDATE
from components.action import run
from components.settings import DriverName, MountSettings, NetworkSettings, Sizes, mib


class SshKeyArgs(TypedDict):
    """What the stack's SSH key is made from."""

    private_key_file: NotRequired[str | None]
    """A key that opens existing hosts. Without it a new key pair is made for the stack."""


class SshKey(pulumi.ComponentResource):
    """The key pair that opens every machine of the stack. The private key lives in the stack's encrypted state only."""

    private_key: pulumi.Output[str]
    """The private key in OpenSSH form. Secret."""
    public_key: pulumi.Output[str]
    """The public key as one line of `authorized_keys`."""
    token: pulumi.Output[str]
    """256 random bits in hexadecimal, the cluster's join token. Secret."""

    def __init__(self, name: str, args: SshKeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the key pair, or read the one of `private_key_file`."""
        super().__init__("istio-vms:machines:SshKey", name, None, opts)
        made = run(
            f"{name}-pair",
            MAKE_SECRETS,
            {"private_key_file": args.get("private_key_file")},
            # Run again it would make another pair, and with it other machines: only another file is a reason.
            pulumi.ResourceOptions(
                parent=self,
                additional_secret_outputs=["stdout"],
                ignore_changes=["create", "update", "stdin", "environment"],
            ),
            replace_on=[args.get("private_key_file")],
        )
        document = made.result
        self.private_key = pulumi.Output.secret(document["private_key"])
        self.public_key = pulumi.Output.unsecret(document["public_key"])
        self.token = pulumi.Output.secret(document["token"])
        self.register_outputs({"publicKey": self.public_key})


class MachineArgs(TypedDict):
    """What a machine should be."""

    driver: DriverName
    owner: str
    """Whose machine it is: `<project>/<stack>`."""
    sizes: Sizes
    image: str
    """What to boot, in the driver's terms."""
    user: str
    """The user that the key opens; it may become root by sudo."""
    user_data: pulumi.Input[str]
    """cloud-init user-data: what the machine does at its first boot. A change counts for machines made later."""
    key: SshKey
    """What opens the machine; another key makes a new machine, but for an existing host, whose owner lets keys in."""
    network: NetworkSettings
    mounts: Sequence[MountSettings]
    """Read-only folders."""
    options: Mapping[str, Any]
    """The driver's own options."""


class Machine(pulumi.ComponentResource):
    """A systemd Linux host with our user, our key and a pinned host key, whichever driver makes it."""

    machine_name: str
    """The machine's name with the driver, and its host name."""
    address: pulumi.Output[str]
    """The IPv4 address it is reached at."""
    reached: pulumi.Output[Mapping[str, Any]]
    """What a person needs to reach it: address, port, user and host key (type and base64). Nothing of it is secret."""
    connection: pulumi.Output[Mapping[str, Any]]
    """How to reach it over SSH: `actions.protocol.Ssh`. Secret."""
    resource: command.local.Command
    """The resource that owns the machine; its id changes only when the machine is recreated."""

    def __init__(self, name: str, args: MachineArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the machine; returns as soon as it has an address and a host key."""
        super().__init__("istio-vms:machines:Machine", name, None, opts)
        self.machine_name = name
        network = {"name": args["network"].name, "cidr": args["network"].cidr or ""}
        ensured = run(
            f"{name}-machine",
            ENSURE,
            _spec(name, args) | {"network": network},
            # The driver refuses a second machine of the same name: the old one has to go first.
            pulumi.ResourceOptions(parent=self, delete_before_replace=True),
            update=UPDATE,
            delete=DELETE,
            replace_on=[
                args["driver"].value,
                args["image"],
                "" if args["driver"] is DriverName.EXISTING else args["key"].public_key,
                network,
                args["options"].get("host"),
            ],
        )
        # Nothing in the answer is secret, though an existing host's document is, which has the key.
        state = pulumi.Output.unsecret(ensured.result)
        self.resource = ensured.resource
        self.address = state.apply(lambda known: known.address)
        self.connection = pulumi.Output.all(state, args["key"].private_key).apply(lambda both: _connection(*both))
        self.reached = state.apply(
            lambda known: {
                "address": known.address,
                "port": known.port,
                "user": known.user,
                "hostKey": known.host_key,
            }
        )
        self.register_outputs({"address": self.address})


def _connection(state: MachineState, private_key: str) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "host": state.address,
            "port": state.port,
            "user": state.user,
            "private_key": private_key,
            "host_key": state.host_key,
        }
    )


def _spec(name: str, args: MachineArgs) -> dict[str, Any]:
    """`actions.machines.driver.MachineSpec`, but for the network."""
    sizes = args["sizes"]
    return {
        "name": name,
        "driver": args["driver"].value,
        "owner": args["owner"],
        "cpus": sizes.cpus,
        "memory_mib": mib(sizes.memory),
        "disk_gib": mib(sizes.disk) // 1024,
        "image": args["image"],
        "user": args["user"],
        "user_data": args["user_data"],
        "mounts": [mount.model_dump() for mount in args["mounts"]],
        "options": args["options"],
    }
