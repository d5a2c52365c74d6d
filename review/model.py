"""What a preview and the policies know of a resource, and what becomes of it. Needs nothing but Python: the policy pack imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Op = Literal[
    "create",
    "create-replacement",
    "delete",
    "delete-replaced",
    "diff",
    "discard",
    "discard-replaced",
    "extend-parameterize",
    "import",
    "import-replacement",
    "read",
    "read-replacement",
    "refresh",
    "remove-pending-replace",
    "replace",
    "same",
    "update",
]
"""The engine's operations: `pkg/resource/deploy/step.go`."""
Action = Literal["delete", "replace", "update", "create"]
ACTIONS: Sequence[Action] = ("delete", "replace", "update", "create")
"""What a reader has to know of, what is hardest to undo first."""
ACTION_OF: Mapping[Op, Action] = {
    "delete": "delete",
    "replace": "replace",  # its parts, `create-replacement` and others, are told by the engine only if asked for
    "update": "update",
    "create": "create",
    "import": "create",
}
ENDED: Mapping[str, str] = {
    "delete": "deleted",
    "replace": "replaced",
    "create-replacement": "replaced",
    "delete-replaced": "replaced",
}
"""What is said of a resource that is no longer what it was, by operation."""
MACHINE_TYPES, MACHINE_SUFFIX = "istio-vms:machines:Machine$command:local:Command", "-machine"
"""Types and name of the resource that owns a machine: deleting it deletes the machine (components/machines/machine.py)."""


class Named:
    """Something with a URN: `urn:pulumi:<stack>::<project>::<types from the outermost parent, joined by $>::<name>`."""

    urn: str

    @property
    def stack(self) -> str:
        """The stack it is in."""
        return self.urn.split(":", 3)[2]

    @property
    def qualified_type(self) -> str:
        """The types of the parents and its own, joined by $."""
        return self.urn.split("::", 3)[2]

    @property
    def type(self) -> str:
        """Its own type."""
        return self.qualified_type.rpartition("$")[2]

    @property
    def name(self) -> str:
        """Its name in the program."""
        return self.urn.split("::", 3)[3]

    @property
    def machine(self) -> str | None:
        """The name of the machine that it owns."""
        owns = self.qualified_type.endswith(MACHINE_TYPES) and self.name.endswith(MACHINE_SUFFIX)
        return self.name.removesuffix(MACHINE_SUFFIX) if owns else None


@dataclass(frozen=True)
class Resource(Named):
    """A resource as the program declares it.

    Attributes:
        urn: its URN.
        inputs: plain data, with `UNKNOWN_STRING` in place of what is not known yet.
        secrets_hidden: whether `MASKED` stands in place of each secret. If not, secrets cannot be told from other values.
    """

    urn: str
    inputs: Mapping[str, Any]
    secrets_hidden: bool

    @property
    def kind(self) -> str:
        """The kind of a Kubernetes object; empty for anything else."""
        return str(self.inputs.get("kind", "")) if self.type.startswith("kubernetes:") else ""


@dataclass(frozen=True)
class Change(Named):
    """What an update would do to a resource."""

    op: str
    urn: str
