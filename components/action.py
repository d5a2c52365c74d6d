"""How a component has an action done: its request on stdin, its result on stdout, its progress in Pulumi's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pulumi
import pulumi_command as command

from actions.protocol import MARKER, Action, read_result

R = TypeVar("R")


@dataclass(frozen=True)
class Done(Generic[R]):
    """An action that is done, and the resource that it is in the program."""

    action: Action[Any, R]
    resource: command.local.Command

    @property
    def result(self) -> pulumi.Output[R]:
        """What the action printed; secret where its request is."""
        return self.resource.stdout.apply(lambda printed: read_result(self.action, printed))


def run(
    name: str,
    action: Action[Any, R],
    request: pulumi.Input[Mapping[str, Any]],
    opts: pulumi.ResourceOptions,
    *,
    update: Action[Any, R] | None = None,
    delete: Action[Any, Any] | None = None,
    replace_on: Sequence[pulumi.Input[Any]] = (),
) -> Done[R]:
    """Do it, and again whenever the request changes.

    Secrets travel in the request and in the result only: never in the command, the environment or the log.

    Args:
        name: the resource's name.
        action: done on create, and on update where that has no action of its own.
        request: what the action reads.
        opts: the resource's options.
        update: done when the request changes.
        delete: done on delete, with the same request; None where nothing is to be undone.
        replace_on: values whose change means a new thing rather than an update.
    """
    resource = command.local.Command(
        name,
        create=_script(action),
        update=_script(update or action),
        delete=_script(delete) if delete else None,
        environment={MARKER: action.name},
        stdin=pulumi.Output.json_dumps(request),
        triggers=list(replace_on),
        logging=command.local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=opts,
    )
    return Done(action, resource)


def _script(action: Action[Any, Any]) -> str:
    """Pulumi runs it in the project's folder."""
    return f"actions/run {action.name}"
