"""What a preview knows of a resource, what becomes of it, and what a policy is. Imports nothing: the pack needs it.

No policy knows who runs it: the engine, or the reader of a preview's JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Options = Mapping[str, Any]
Action = Literal["delete", "replace", "update", "create"]
ACTIONS: Sequence[Action] = ("delete", "replace", "update", "create")
"""What a reader has to know of, what is hardest to undo first."""
ACTION_OF: Mapping[str, Action] = {
    # The parts of a replacement, `create-replacement` and others, are told by the engine only if asked for.
    **{action: action for action in ACTIONS},
    "import": "create",
}
_REPLACEMENT = ("replace", "create-replacement", "delete-replaced")
ENDED: Mapping[str, str] = {"delete": "deleted", **dict.fromkeys(_REPLACEMENT, "replaced")}
"""What is said of a resource that is no longer what it was, by operation."""
MACHINE_TYPES, MACHINE_SUFFIX = "istio-vms:machines:Machine$command:local:Command", "-machine"
"""Types and name of the resource that owns a machine, and deletes it with itself (components/machines/machine.py)."""


class Named:
    """Something with a URN: `urn:pulumi:<stack>::<project>::<types from the outermost parent, joined by $>::<name>`."""

    urn: str

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
        secrets_hidden: whether `MASKED` stands in place of each secret, which else nothing tells from other values.
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


@dataclass(frozen=True)
class Violation:
    """What is wrong and what to do about it. Without a URN it is the stack as a whole."""

    message: str
    urn: str = ""


ResourceCheck = Callable[[Resource, Options], Iterable[str]]
StackCheck = Callable[[Sequence[Resource], Options], Iterable[Violation]]
ChangesCheck = Callable[[Sequence[Change], Options], Iterable[Violation]]


@dataclass(frozen=True)
class Rule:
    """One policy.

    Attributes:
        name: what configuration and violations call it.
        description: what holds where it is kept.
        resource: the messages about one resource.
        stack: the violations of a stack's resources taken together, as they are to be afterwards.
        changes: the violations in what an update would do, which the engine shows to no policy.
        options: JSON schemas by name, each with its `default`.
    """

    name: str
    description: str
    resource: ResourceCheck | None = None
    stack: StackCheck | None = None
    changes: ChangesCheck | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def configured(self, given: Options) -> Options:
        """The options with the defaults of those that are not given."""
        return {name: given.get(name, schema["default"]) for name, schema in self.options.items()}


Found = list[tuple[str, Rule, Violation]]
"""Violations, each with its policy and that one's level."""
