"""The table of machine drivers. Each is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from components.machines.driver import Driver, DriverError


def _nspawn() -> Driver:
    from components.machines.nspawn import NspawnDriver

    return NspawnDriver()


def _multipass() -> Driver:
    from components.machines.multipass import MultipassDriver

    return MultipassDriver()


def _existing() -> Driver:
    # A host outlives the stack, so what goes onto machines later is named here; nothing else in this package knows of it.
    from components.cluster.k3s_removal import REMOVE
    from components.machines.existing import ExistingDriver, Removal
    from components.workloads.vm import LEAVE

    return ExistingDriver([Removal(*LEAVE), Removal(REMOVE)])


DRIVERS: dict[str, Callable[[], Driver]] = {"existing": _existing, "multipass": _multipass, "nspawn": _nspawn}


def driver(name: str) -> Driver:
    """The driver of this name.

    Raises:
        DriverError: there is none.
    """
    if name not in DRIVERS:
        raise DriverError(f"no machine driver {name!r}: choose one of {', '.join(sorted(DRIVERS))}")
    return DRIVERS[name]()
