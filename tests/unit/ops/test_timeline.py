"""The longest chain of a run, from a state made by hand."""

from datetime import UTC, datetime
from typing import Any

from ops.timeline import Link, longest_chain

STARTED = datetime(2026, 11, 21, 3, 0, 0, tzinfo=UTC)


def resource(name: str, second: float, *needs: str, custom: bool = True, provider: str = "") -> dict[str, Any]:
    return {
        "urn": f"urn:pulumi:lab::istio-vms::t::{name}",
        "custom": custom,
        "type": "t",
        "modified": f"2026-11-21T03:{int(second) // 60:02d}:{second % 60:09.6f}123Z",
        "dependencies": [f"urn:pulumi:lab::istio-vms::t::{need}" for need in needs],
        "provider": f"urn:pulumi:lab::istio-vms::t::{provider}::id-of-it" if provider else "",
    }


def test_the_chain_follows_what_was_waited_for_last() -> None:
    resources = [
        resource("key", 1),
        resource("server", 10, "key"),
        resource("vm", 70, "key"),
        resource("provider", 30.5, "server"),
        resource("istiod", 50, provider="provider"),
        resource("join", 72, "istiod", "vm", "component"),
        resource("component", 71, custom=False),
        resource("other", 60, "server"),
    ]
    assert longest_chain(resources, STARTED) == [Link("key", 1), Link("vm", 69), Link("join", 2)]
    by_provider = [r for r in resources if not r["urn"].endswith(("vm", "join"))][:-2]
    assert longest_chain(by_provider, STARTED) == [
        Link("key", 1),
        Link("server", 9),
        Link("provider", 20.5),
        Link("istiod", 19.5),
    ]


def test_what_was_there_before_takes_no_time() -> None:
    before = {**resource("key", 1), "modified": "2026-11-20T23:59:59.5Z"}
    assert longest_chain([before, resource("join", 5, "key")], STARTED) == [Link("join", 5)]


def test_a_run_that_changed_nothing_has_no_chain() -> None:
    never = {key: value for key, value in resource("new", 1).items() if key != "modified"}
    assert longest_chain([{**resource("key", 1), "modified": "2026-11-20T12:00:00Z"}, never], STARTED) == []


def test_resources_done_in_the_same_moment_end_the_chain() -> None:
    assert longest_chain([resource("a", 2, "b"), resource("b", 2, "a")], STARTED) == [Link("a", 2)]
