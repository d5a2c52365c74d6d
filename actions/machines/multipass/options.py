"""The driver's own table in a machine's settings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actions.protocol import Failure


def _state_dir() -> Path:
    """Beside the state of the stacks; see `ops/workspace.py`."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "istio-vms/multipass"


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
    state_dir: Path = field(default_factory=_state_dir)

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Options:
        """Read the table.

        Raises:
            Failure: a key is unknown.
        """
        unknown = sorted(set(table) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise Failure(f"multipass options: unknown: {', '.join(unknown)}; known are {known}")
        return cls(
            networks=tuple(table.get("networks", ())),
            timeout_seconds=float(table.get("timeout_seconds", cls.timeout_seconds)),
            snapshots=int(table.get("snapshots", cls.snapshots)),
            state_dir=Path(table["state_dir"]).expanduser() if "state_dir" in table else _state_dir(),
        )

    @property
    def earlier_dir(self) -> Path:
        """Where claims may be that an earlier version wrote, which did not look at `XDG_STATE_HOME`."""
        return (
            Path("~/.local/state/istio-vms/multipass").expanduser()
            if self.state_dir == _state_dir()
            else self.state_dir
        )
