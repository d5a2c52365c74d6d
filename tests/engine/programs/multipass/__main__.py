"""One machine as the settings would have it, and something that depends on where it is."""

import pulumi
import pulumi_command as command

from components.machines.machine import Machine

config = pulumi.Config()
machine = Machine("lab-vm-1", config.require_object("machine"))
command.local.Command("follower", create="cat", stdin=machine.address)
pulumi.export("address", machine.address)
