"""How a component runs one of this project's own command lines: JSON on stdin, JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_command as command


def run_module(
    name: str,
    module: str,
    verb: str,
    document: pulumi.Input[Mapping[str, Any]],
    opts: pulumi.ResourceOptions,
    *,
    update_verb: str | None = None,
    delete_verb: str | None = None,
    replace_on: Sequence[pulumi.Input[Any]] = (),
) -> command.local.Command:
    """Run `python3 -m <module> <verb>` with `document` on stdin, again whenever the document changes.

    Secrets travel in the document and in the answer only: never in the command, the environment or the log.

    Args:
        name: the resource's name.
        module: a package of this project with a command line.
        verb: run on create, and on update when that has no verb of its own; idempotent.
        document: what the verb reads, as JSON.
        opts: the resource's options.
        update_verb: run when the document changes.
        delete_verb: run on delete, with the same document; None when nothing is to be undone.
        replace_on: values whose change means a new thing rather than an update.
    """
    return command.local.Command(
        name,
        create=f"python3 -m {module} {verb}",
        update=f"python3 -m {module} {update_verb or verb}",
        delete=f"python3 -m {module} {delete_verb}" if delete_verb else None,
        stdin=pulumi.Output.json_dumps(document),
        triggers=list(replace_on),
        logging=command.local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=opts,
    )


def answer(ran: command.local.Command) -> pulumi.Output[dict[str, Any]]:
    """The JSON document that the command printed."""
    return ran.stdout.apply(json.loads)
