"""Machines that have to stay: their disks hold what nothing else does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from review.model import ENDED, Change, Options, Resource, Violation


def kept(changes: Sequence[Change], options: Options) -> Iterable[Violation]:
    """Changes that end a protected machine; a replaced one is a new machine under the old name."""
    for change in {change.urn: change for change in changes if change.op in ENDED}.values():
        machine = change.machine
        if machine and any(fnmatchcase(machine, pattern) for pattern in options["machines"]):
            yield Violation(
                f"machine {machine} would be {ENDED[change.op]}: keep it, or take it out of this policy's machines",
                change.urn,
            )


def present(resources: Sequence[Resource], options: Options) -> Iterable[Violation]:
    """Protected machines that the program does not declare any more. Patterns name no machine in particular."""
    declared = {resource.machine for resource in resources}
    for machine in options["machines"]:
        if not re.search(r"[*?\[]", machine) and machine not in declared:
            yield Violation(
                f"machine {machine} is not in the stack: declare it, or take it out of this policy's machines"
            )
