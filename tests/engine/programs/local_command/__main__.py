"""One local command whose every input comes from the configuration."""

import pulumi
import pulumi_command as command

config = pulumi.Config()
inputs = config.require_object("inputs")
size = config.get_int("stdin_bytes")
if size:
    inputs["stdin"] = "x" * size
if "stdin" in inputs and config.get_bool("secret"):
    inputs["stdin"] = pulumi.Output.secret(inputs["stdin"])
ran = command.local.Command(
    "ran",
    opts=pulumi.ResourceOptions(
        delete_before_replace=config.get_bool("delete_before_replace"),
        protect=config.get_bool("protect"),
        additional_secret_outputs=["stdout"] if config.get_bool("secret") else None,
    ),
    **inputs,
)
# The engine takes minutes to show megabytes: of those only the number.
shown = len if size else str
pulumi.export("stdout", ran.stdout.apply(shown))
pulumi.export("stderr", ran.stderr.apply(shown))
