"""The driver's own table in a machine's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.machines.driver import DriverError


@dataclass(frozen=True)
class Options:
    """The driver's own table in a machine's settings.

    Attributes:
        networks: further networks, each as `--network` takes it: `en0`, or `name=en0,mode=manual,mac=…`.
        timeout_seconds: for one machine to come up, its image's download included.
        snapshots: how many snapshots to keep of those that are taken before a resize; none is taken with 0.
        state_dir: where claims and locks are kept.
    """

    networks: tuple[str, ...] = ()
    timeout_seconds: float = 900
    snapshots: int = 0
    state_dir: Path = Path("~/.local/state/istio-vms/multipass")

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Options:
        """Read the table.

        Raises:
            DriverError: a key is unknown.
        """
        unknown = sorted(set(table) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise DriverError(f"multipass options: unknown: {', '.join(unknown)}; known are {known}")
        return cls(
            networks=tuple(table.get("networks", ())),
            timeout_seconds=float(table.get("timeout_seconds", cls.timeout_seconds)),
            snapshots=int(table.get("snapshots", cls.snapshots)),
            state_dir=Path(table.get("state_dir", cls.state_dir)).expanduser(),
        )
