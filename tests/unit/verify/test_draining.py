"""How long a verification waits for Envoy after an `up`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from verify import draining

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def operation(ago: float, **changes: int) -> dict[str, Any]:
    """One as `pulumi stack history --json` has it."""
    ended = (NOW - timedelta(seconds=ago)).isoformat().replace("+00:00", ".000Z")
    return {"kind": "update", "endTime": ended, "result": "succeeded", "resourceChanges": changes}


@pytest.mark.parametrize(
    ("history", "seconds"),
    [
        ([], 0),
        ([operation(20, same=80, update=1)], 30),
        ([operation(20, same=80, delete=1)], 30),
        ([operation(20, same=90)], 0),
        ([operation(3600, create=90)], 0),
        ([operation(20, same=90), operation(25, update=1)], 25),
        ([operation(-3600, create=90)], 50),
        ([operation(20)], 30),
        ([{"kind": "update", "result": "in-progress"}], 0),
    ],
    ids=["none", "updated", "deleted", "unchanged", "long ago", "changed before", "another clock", "unknown", "no end"],
)
def test_the_last_change_is_waited_for(history: list[dict[str, Any]], seconds: float) -> None:
    assert draining.left(history, NOW) == seconds
