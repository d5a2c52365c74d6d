"""Where the time of a run went: the longest chain of operations that waited for each other.

Pulumi's state has, for every resource, when it was last changed and what it depends on. The resource that was done last waited for
the dependency that was done last, and so on back to the start: that chain is what has to get shorter for the run to get shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops import state


@dataclass(frozen=True)
class Link:
    """One operation of the chain: a resource's name, and the seconds from its last dependency's end to its own."""

    name: str
    seconds: float


def longest_chain(resources: Iterable[Mapping[str, Any]], started: datetime) -> list[Link]:
    """The chain, first operation first; empty when nothing was changed after `started`.

    Args:
        resources: the resources of a deployment, as `pulumi stack export` prints them.
        started: when the run began, with a time zone.
    """
    changed = [r for r in resources if r.get("custom") and r.get("modified")]
    done = {r["urn"]: when for r in changed if (when := datetime.fromisoformat(r["modified"])) > started}
    needs = {r["urn"]: _dependencies(r) for r in changed}
    chain: list[Link] = []
    current = max(done, key=lambda urn: done[urn], default=None)
    while current:
        before = [urn for urn in needs[current] if urn in done and done[urn] < done[current]]
        last = max(before, key=lambda urn: done[urn], default=None)
        begun = done[last] if last else started
        chain.append(Link(_name(current), (done[current] - begun).total_seconds()))
        current = last
    return chain[::-1]


def _name(urn: str) -> str:
    """A resource's name; the engine calls the providers it makes by itself `default_<version>`, which says nothing."""
    name = state.name(urn)
    return "start of Pulumi" if name.startswith("default_") else name


def _dependencies(resource: Mapping[str, Any]) -> list[str]:
    """What a resource waits for; its provider's reference has the provider's id behind the URN."""
    provider = resource.get("provider", "").rpartition("::")[0]
    return [*resource.get("dependencies", []), *([provider] if provider else [])]
