"""A component and three commands for each VM: what the engine and the SDK need for so many resources, whatever they are."""

import pulumi
import pulumi_command as command

for number in range(int(pulumi.Config().require("vms"))):
    vm = pulumi.ComponentResource("flat:index:Vm", f"vm-{number}")
    before = None
    for name in ("machine", "prepare", "join"):
        before = command.local.Command(
            f"vm-{number}-{name}",
            create="true",
            stdin=before.stdout if before else "",
            opts=pulumi.ResourceOptions(parent=vm),
        )
