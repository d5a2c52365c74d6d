"""What a check hands over: one row of the report each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a promise was found."""

    HOLDS = "holds"
    FAILS = "FAILS"
    NOT_ASKED = "not asked for"
    """The stack's settings do not have the feature, so there is nothing to show."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the promise, in words.
        how: the traffic that was sent or the state that was read.
        evidence: what was seen.
        verdict: whether that is what was promised.
    """

    what: str
    how: str
    evidence: str
    verdict: Verdict


def found(what: str, how: str, evidence: str, good: bool) -> Finding:
    """A finding whose verdict is whether it was good."""
    return Finding(what, how, evidence, Verdict.HOLDS if good else Verdict.FAILS)


def not_asked(what: str, setting: str) -> Finding:
    """A finding for what the settings do not ask for."""
    return Finding(what, "", f"{setting} is not set", Verdict.NOT_ASKED)
