"""Programs and files from Go modules, pinned by a go.mod and verified by the go.sum beside it.

A module of ours under `lab/tools/go/` requires the real one at an exact version: `go install module@version` needs version lists
that a module proxy may not have, and verifies nothing but that one module.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.tools.job import Job, ToolError

MODULES = Path(__file__).parent / "go"


@dataclass(frozen=True)
class GoBuild:
    """Commands built from one module.

    Attributes:
        module: folder under lab/tools/go.
        packages: name of the program -> import path, or a path in the module with ./.
        tags: build tags.
        cgo: whether C code is compiled in; then the program is linked statically as a whole.
        variables: string variables set at link time; `{go}` in a value stands for the compiler's version.
        libraries: C libraries for the static link, in order.
    """

    module: str
    packages: Mapping[str, str]
    tags: Sequence[str] = ()
    cgo: bool = False
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    libraries: Sequence[str] = ()

    fetches = True
    builds = True

    def fingerprint(self) -> str:
        """Changes with the flags and with every file of our module."""
        return f"{self!r} {module_digest(self.module)}"

    def fetch(self, job: Job) -> None:
        """Download the modules that these packages need, and no other."""
        self._go(job, "list", "-deps", *self.packages.values(), stdout=Path(os.devnull))

    def build(self, job: Job) -> None:
        """Compile."""
        output = job.folder / ".go"
        output.mkdir(exist_ok=True)
        flags = ["-trimpath", "-buildvcs=false", f"-p={job.processes}", f"-ldflags={self._link_flags(job)}"]
        self._go(job, "build", *flags, "-o", f"{output}/", *self.packages.values())
        for program, package in self.packages.items():
            (output / package.rpartition("/")[2]).rename(job.folder / program)
        output.rmdir()

    def _go(self, job: Job, command: str, *arguments: str, stdout: Path | None = None) -> None:
        environment = go_environment() | {"CGO_ENABLED": "1" if self.cgo else "0"}
        words: list[str | Path] = [job.go, command, "-mod=readonly"]
        words += [f"-tags={','.join(self.tags)}", *arguments]
        job.run(words, cwd=MODULES / self.module, env=environment, stdout=stdout)

    def _link_flags(self, job: Job) -> str:
        flags = ["-s", "-w"]
        version = job.read([job.go, "env", "GOVERSION"], cwd=MODULES / self.module, env=go_environment())
        flags += [f"-X {name}={value.replace('{go}', version)}" for name, value in self.variables.items()]
        if self.cgo:
            libraries = "".join(f" -l{library}" for library in self.libraries)
            flags.append(f"-extldflags '-static{libraries}'")
        return " ".join(flags)


@dataclass(frozen=True)
class ModuleFiles:
    """Files that a required module carries beside its code.

    Attributes:
        module: folder under lab/tools/go whose go.mod pins the version.
        path: the module's path.
        copies: file or folder in the module -> place in the tool's folder.
        executable: which of the places are programs.
    """

    module: str
    path: str
    copies: Mapping[str, str]
    executable: Sequence[str] = ()

    fetches = True
    builds = True

    def fingerprint(self) -> str:
        """Changes with the list of files and with every file of our module."""
        return f"{self!r} {module_digest(self.module)}"

    def fetch(self, job: Job) -> None:
        """Download the module."""
        job.run([job.go, "mod", "download", self.path], cwd=MODULES / self.module, env=go_environment())

    def build(self, job: Job) -> None:
        """Copy, without the module cache's read-only modes."""
        command = [job.go, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.path]
        source = Path(job.read(command, cwd=MODULES / self.module, env=go_environment()))
        for original, place in self.copies.items():
            target = job.folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / original).is_dir():
                shutil.copytree(source / original, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
                for folder in (target, *target.rglob("*/")):
                    folder.chmod(0o755)
            elif (source / original).is_file():
                shutil.copyfile(source / original, target)
                target.chmod(0o755 if place in self.executable else 0o644)
            else:
                raise ToolError(f"{self.path} has no {original}")


def module_digest(module: str) -> str:
    """Digest of the files of one of our modules, tests apart."""
    digest = hashlib.sha256()
    for path in sorted((MODULES / module).rglob("*")):
        if path.is_file() and not path.name.endswith("_test.go"):
            digest.update(f"{path.relative_to(MODULES)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def go_environment() -> dict[str, str]:
    """The user's Go settings, except those that would change what is built."""
    return {"GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off", "GOOS": "linux", "GOARCH": "amd64"}
