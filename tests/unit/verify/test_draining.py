"""How long a verification waits for Envoy after an `up`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from verify import draining

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
POLICY = "kubernetes:security.istio.io/v1:PeerAuthentication"


def deployment(*changed: tuple[str, float]) -> dict[str, Any]:
    return {
        "resources": [
            {"type": kind, "urn": "x", "modified": (NOW - timedelta(seconds=ago)).isoformat().replace("+00:00", "Z")}
            for kind, ago in changed
        ]
    }


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        ((), 0),
        (((POLICY, 20),), 30),
        (((POLICY, 3600),), 0),
        (((POLICY, 3600), ("kubernetes:networking.istio.io/v1:Gateway", 40)), 10),
        ((("kubernetes:apps/v1:Deployment", 5), ("command:local:Command", 5)), 0),
        (((POLICY, -3600),), 50),
    ],
    ids=["new", "just changed", "long ago", "the last counts", "no listener", "another clock"],
)
def test_the_last_change_is_waited_for(changed: tuple[tuple[str, float], ...], seconds: float) -> None:
    assert draining.left(deployment(*changed), NOW) == seconds


def test_what_has_no_time_counts_as_old() -> None:
    assert draining.left({"resources": [{"type": POLICY, "urn": "x"}]}, NOW) == 0
