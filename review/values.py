"""Values of properties as a preview prints them: plain data in which secrets and unknowns are marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
"""The key by which Pulumi marks a table as a secret, an asset or the like: `sdk/go/common/resource/sig.go` in its sources."""
UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What Pulumi writes in place of a value that is known after `up` only."""
MASKED: Final = "[secret]"
"""What Pulumi shows of a secret, and so do we."""
ABSENT: Final = object()
"""No value, where null would be one."""


@dataclass(frozen=True)
class Unknown:
    """A value that is known after `up` only."""


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, repr=False)
class Secret:
    """A value that nobody gets to see; compared all the same where it is known."""

    value: Any = None

    def __repr__(self) -> str:
        return MASKED
