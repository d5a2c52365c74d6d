"""One machine as the settings would have it, and something that depends on where it is."""

from types import SimpleNamespace

import pulumi
import pulumi_command as command

from components.machines.machine import Machine
from components.settings import DriverName, NetworkSettings, Sizes

config = pulumi.Config()
wanted = config.require_object("machine")
machine = Machine(
    "lab-vm-1",
    {
        "driver": DriverName.MULTIPASS,
        "owner": "istio-vms/lab",
        "sizes": Sizes(cpus=wanted["cpus"], memory=wanted["memory"], disk=wanted["disk"]),
        "image": wanted["image"],
        "user": "ubuntu",
        "user_data": wanted["user_data"],
        "key": SimpleNamespace(public_key="ssh-ed25519 AAAA", private_key=pulumi.Output.secret("none of ours")),
        "network": NetworkSettings(name="default"),
        "mounts": [],
        "options": wanted["options"],
    },
)
command.local.Command("follower", create="cat", stdin=machine.address)
pulumi.export("address", machine.address)
