"""The table of machine drivers. Each is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actions.machines.driver import Driver, Removal
from actions.protocol import Failure


def _nspawn(removals: Sequence[Removal]) -> Driver:
    from actions.machines.nspawn import NspawnDriver

    return NspawnDriver()


def _multipass(removals: Sequence[Removal]) -> Driver:
    from actions.machines.multipass import MultipassDriver

    return MultipassDriver()


def _existing(removals: Sequence[Removal]) -> Driver:
    from actions.machines.existing import ExistingDriver

    return ExistingDriver(removals)


DRIVERS: dict[str, Callable[[Sequence[Removal]], Driver]] = {
    "existing": _existing,
    "multipass": _multipass,
    "nspawn": _nspawn,
}


def driver(name: str, removals: Sequence[Removal]) -> Driver:
    """The driver of this name.

    Args:
        name: as the settings have it.
        removals: what others have put on machines, for a driver whose machines outlive the stack.

    Raises:
        Failure: there is none.
    """
    if name not in DRIVERS:
        raise Failure(f"no machine driver {name!r}: choose one of {', '.join(sorted(DRIVERS))}")
    return DRIVERS[name](removals)
