"""How a component has an action done: its request on stdin, its result on stdout, its progress in Pulumi's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

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
        request: what the action reads; any value in it may be an Output.
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
        stdin=_as_json(request),
        triggers=list(replace_on),
        logging=command.local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=opts,
    )
    return Done(action, resource)


def _script(action: Action[Any, Any]) -> str:
    """Pulumi runs it in the project's folder."""
    return f"actions/run {action.name}"


def _as_json(request: pulumi.Input[Mapping[str, Any]]) -> pulumi.Output[str]:
    """The request as JSON, by one `apply` over its Outputs.

    The SDK makes an Output of each value in a dictionary, also in one that an `apply` returns, and its work grows with the square of
    their number. A `MappingProxyType` it leaves as it is, hence `dict` below.
    """
    if isinstance(request, pulumi.Output):
        return request.apply(lambda known: json.dumps(known, default=dict))
    outputs: list[pulumi.Output[Any]] = []

    def without_outputs(value: Any) -> Any:
        if isinstance(value, pulumi.Output):
            outputs.append(cast("pulumi.Output[Any]", value))
            return _Place(len(outputs) - 1)
        if isinstance(value, Mapping):
            return {key: without_outputs(inner) for key, inner in cast("Mapping[str, Any]", value).items()}
        if isinstance(value, (list, tuple)):
            return [without_outputs(inner) for inner in cast("Sequence[Any]", value)]
        return value

    document = without_outputs(request)

    def told(known: list[Any]) -> str:
        return json.dumps(
            document, default=lambda value: known[value.index] if isinstance(value, _Place) else dict(value)
        )

    return pulumi.Output.all(*outputs).apply(told)


@dataclass(frozen=True)
class _Place:
    """Stands for an Output in a document."""

    index: int
