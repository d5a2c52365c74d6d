"""Machines that have to stay: their disks hold what nothing else does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from review.rules.model import Change, Options, Resource, Violation

_OWNER = "istio-vms:machines:Machine$command:local:Command"
_SUFFIX = "-machine"
"""Type and name of the resource that owns a machine: deleting it deletes the machine (components/machines/machine.py)."""
_ENDING = ("delete", "replace", "create-replacement", "delete-replaced")


def kept(changes: Sequence[Change], options: Options) -> Iterable[Violation]:
    """Changes that end a protected machine; a replaced one is a new machine under the old name."""
    ending = {change.resource.urn: change for change in changes if change.op in _ENDING}
    for urn, change in ending.items():
        machine = _machine(change.resource)
        if machine and any(fnmatchcase(machine, pattern) for pattern in options["machines"]):
            verb = "deleted" if change.op == "delete" else "replaced"
            yield Violation(
                f"machine {machine} would be {verb}: keep it, or take it out of this policy's machines", urn
            )


def present(resources: Sequence[Resource], options: Options) -> Iterable[Violation]:
    """Protected machines that the program does not declare any more. Patterns name no machine in particular."""
    declared = {_machine(resource) for resource in resources}
    for machine in options["machines"]:
        if not re.search(r"[*?\[]", machine) and machine not in declared:
            yield Violation(
                f"machine {machine} is not in the stack: declare it, or take it out of this policy's machines"
            )


def _machine(resource: Resource) -> str | None:
    """The name of the machine that the resource owns."""
    owns = resource.qualified_type.endswith(_OWNER) and resource.name.endswith(_SUFFIX)
    return resource.name.removesuffix(_SUFFIX) if owns else None
