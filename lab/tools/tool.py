"""What a recipe is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.tools.gobuild import GoBuild, ModuleFiles
from lab.tools.job import Job
from lab.tools.official import Release


class Step(Protocol):
    """A part of how a tool is made: what waits for the network first, then what needs processors; either may be nothing."""

    @property
    def fetches(self) -> bool:
        """Whether `fetch` has anything to do."""
        ...

    @property
    def builds(self) -> bool:
        """Whether `build` has anything to do."""
        ...

    def fingerprint(self) -> str:
        """Text that changes whenever the result could."""
        ...

    def fetch(self, job: Job) -> None:
        """Get what is needed from the network."""
        ...

    def build(self, job: Job) -> None:
        """Make it."""
        ...


@dataclass(frozen=True)
class Call:
    """A step in Python.

    Attributes:
        function: does it.
        sources: files whose change makes the result another one.
        inputs: further words that do.
        network: whether it mostly waits for the network.
    """

    function: Callable[[Job], None]
    sources: Sequence[str] = ()
    inputs: Sequence[str] = ()
    network: bool = False

    @property
    def fetches(self) -> bool:
        """Whether it is the network that takes the time."""
        return self.network

    @property
    def builds(self) -> bool:
        """Whether it is not."""
        return not self.network

    def fingerprint(self) -> str:
        """Changes with the sources and inputs."""
        return repr([*self.inputs, *(Path(source).read_text() for source in self.sources)])

    def fetch(self, job: Job) -> None:
        """Do it."""
        self.function(job)

    def build(self, job: Job) -> None:
        """Do it."""
        self.function(job)


@dataclass(frozen=True)
class OnPath:
    """How a suitable version on PATH is recognised.

    Attributes:
        command: prints the version.
        at_least: lowest suitable version; a suitable one has the same major version.
        beside: programs that must be on PATH as well.
    """

    command: Sequence[str]
    at_least: tuple[int, int, int]
    beside: Sequence[str] = ()


@dataclass(frozen=True)
class Tool:
    """One tool.

    Attributes:
        name: for people, folders and the command line.
        version: its own.
        steps: how it is made from package registries.
        needs: tools whose finished folders the steps read.
        links: name in bin/ -> file of the tool.
        on_path: how a suitable one on PATH is recognised.
        official: the publisher's release, which goes before the steps.
        hash_files: whether the receipt lists every file's checksum.
        keep_partial: whether an interrupted attempt is continued rather than begun again.
        optional: whether it is got only when it is named.
    """

    name: str
    version: str
    steps: Sequence[Step]
    needs: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict[str, str])
    on_path: OnPath | None = None
    official: Release | None = None
    hash_files: bool = True
    keep_partial: bool = False
    optional: bool = False

    @property
    def uses_go(self) -> bool:
        """Whether a step runs the Go command."""
        return any(isinstance(step, GoBuild | ModuleFiles) for step in self.steps)
