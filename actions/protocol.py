"""What every action shares: one JSON request, one JSON result, progress for people.

A failure is one that a person can act on. Nothing of a request is ever printed back, as requests carry keys and kubeconfigs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Progress = Callable[[str], None]
"""Tells a person what is happening; one line each, no secrets."""


class Failure(Exception):
    """Something a person has to act on. The message says what happened and what to do next."""


STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
"""For what has exactly the keys of its class, those without a default being required."""


class Document(BaseModel):
    """A JSON object with exactly the keys of the class."""

    model_config = STRICT


MARKER = "ISTIO_VMS_ACTION"
"""The variable of a resource that names its action, so that it is found again in a state."""
Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class Nothing(TypedDict):
    """The result of an action that has nothing to say."""


class Ssh(Document):
    """How to reach a machine.

    `private_key` is an OpenSSH private key; `host_key` one `known_hosts` key, type and base64, without a host name.
    """

    host: str
    port: int = Field(default=22, ge=1, le=65535)
    user: str
    private_key: str = Field(repr=False)
    host_key: str


@dataclass(frozen=True)
class Action(Generic[Q, R]):
    """One thing that can be done to the world.

    Attributes:
        name: how it is called: `python3 -m actions NAME`.
        request: what it reads, as JSON.
        result: what it prints, as JSON.
        run: does it. Idempotent: it may be run again after being killed at any point.
    """

    name: str
    request: type[Q]
    result: type[R]
    run: Callable[[Q, Progress], R]


class Deadline:
    """A point in time that several waits share."""

    def __init__(self, seconds: float) -> None:
        """Ends `seconds` from now."""
        self._end = time.monotonic() + seconds

    def left(self, at_most: float = float("inf")) -> float:
        """Seconds that remain, never below zero nor above `at_most`."""
        return min(at_most, max(0.0, self._end - time.monotonic()))

    @property
    def passed(self) -> bool:
        """Whether no time remains."""
        return self.left() == 0.0


def read_result(action: Action[Any, R], text: str | bytes) -> R:
    """What an action printed. What an earlier version printed, which a state may have, is understood too: later keys are optional."""
    return _adapter(action.result).validate_json(text)


def dump_result(action: Action[Any, R], result: R) -> str:
    """What an action prints."""
    return _adapter(action.result).dump_json(result).decode()


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def parse(kind: type[T], text: str | bytes) -> T:
    """Read a document of a class that pydantic knows how to validate.

    Raises:
        Failure: the text is not such a document; every missing, unknown and wrong key is named, no value is.
    """
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        problems = "".join(f"\n  - {'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in found)
        raise Failure(f"the document on stdin has {len(found)} error(s):{problems}") from None
