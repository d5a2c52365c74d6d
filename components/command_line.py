"""What our command lines share: one JSON document on stdin, one on stdout, progress for people on stderr.

A verb is a `Document` class and a function. A failure is one that a person can act on: its message is the last thing on stderr and
the exit code is 1. Nothing of a document is ever printed back, as documents carry keys and kubeconfigs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Progress = Callable[[str], None]
"""Tells a person what is happening; one line each, no secrets."""


class Failure(Exception):
    """Something a person has to act on. The message says what happened and what to do next."""


class Document(BaseModel):
    """A JSON object with exactly the keys of the class, those without a default being required."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


D = TypeVar("D", bound=Document)


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
class Verb:
    """What one word of a command line reads and does; the answer of `run` is printed as JSON."""

    document: type[Document]
    run: Callable[[Any, Progress], Any]


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


def parse(kind: type[D], text: str | bytes) -> D:
    """Read a document.

    Raises:
        Failure: the text is not such a document; every missing, unknown and wrong key is named, no value is.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        problems = "".join(f"\n  - {'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in found)
        raise Failure(f"the document on stdin has {len(found)} error(s):{problems}") from None


def main(module: str, verbs: Mapping[str, Verb], arguments: Sequence[str]) -> int:
    """Run the verb that the arguments name; the exit code."""
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: python3 -m {module} {'|'.join(verbs)} < document.json", file=sys.stderr)
        return 2
    verb = verbs[arguments[0]]
    started = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", file=sys.stderr, flush=True)

    try:
        answer = verb.run(parse(verb.document, sys.stdin.buffer.read()), progress)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    json.dump(answer, sys.stdout)
    print(flush=True)
    return 0
