"""A remote command, and a copied file, whose inputs come from the configuration."""

import pulumi
import pulumi_command as command

config = pulumi.Config()
connection = config.require_object("connection")
inputs = config.get_object("inputs")
size = config.get_int("stdin_bytes")
if inputs is not None:
    if size:
        inputs["stdin"] = "x" * size
    ran = command.remote.Command("ran", connection=command.remote.ConnectionArgs(**connection), **inputs)
    # The engine takes minutes to show megabytes: of those only the number.
    shown = len if size else str
    pulumi.export("stdout", ran.stdout.apply(shown))
    pulumi.export("stderr", ran.stderr.apply(shown))
copies = config.get_object("copies") or {}
for name, (kind, content, path) in copies.items():
    command.remote.CopyToRemote(
        name,
        connection=command.remote.ConnectionArgs(**connection),
        source=pulumi.StringAsset(content) if kind == "text" else pulumi.FileAsset(content),
        remote_path=path,
    )
