"""Reading a stack file, `Pulumi.<stack>.yaml`: everything of ours that wants to know what is in one asks here.

Pulumi reads the file too, with another library (`gopkg.in/yaml.v3`). What the two understand differently, or what Pulumi refuses without
saying where, is an error here, with its line or its path; so are its settings, as long as none of them is encrypted.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from components.settings import TABLES, Problem, find_problems, key_problems
from components.settings.problems import PROJECT
from ops.errors import OpsError

SALT = ("encryptionsalt", "encryptedkey")
"""What only Pulumi can make; it goes with the `secretsprovider`."""
_PULUMIS = ("secretsprovider", *SALT, "environment")
"""What a stack file has besides `config`: `ProjectStack` in `sdk/go/common/workspace/project.go` of Pulumi's sources."""
_SECURE = "secure"
"""The key of a value that Pulumi has encrypted."""
_NONCE_BYTES, _TAG_BYTES = 12, 16
"""What AES-GCM takes, and what it adds."""
_NEEDED_BEFORE = ("machines", "machines.driver")
"""What has to be known before Pulumi runs, so that it cannot be encrypted."""


class StackFileError(OpsError):
    """All that is wrong with a stack file."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        """`problems` has every error found."""
        self.problems = problems
        listing = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} error(s) in the settings of stack {name}:\n{listing}")


@dataclass(frozen=True)
class StackFile:
    """A stack file that can be read.

    Attributes:
        name: the stack's name.
        text: the file, without a byte order mark.
        document: all of it.
        tables: the project's settings by their names.
        problems: what is wrong with the file itself; `check` has the rest.
    """

    name: str
    text: str
    document: Mapping[str, Any]
    tables: Mapping[str, Any]
    problems: Sequence[Problem]

    @property
    def encryption(self) -> dict[str, str]:
        """What the file says of encryption."""
        return {key: self.document[key] for key in ("secretsprovider", *SALT) if key in self.document}

    @property
    def driver(self) -> str:
        """The machine driver; empty for none."""
        machines = self.tables.get("machines")
        driver = machines.get("driver") if isinstance(machines, dict) else None
        return driver if isinstance(driver, str) else ""

    def encrypted(self) -> list[str]:
        """The paths of encrypted values."""
        return [path for key, value in self.tables.items() for path in _encrypted(value, f"{PROJECT}:{key}")]

    def check(self, *, files: bool = False) -> None:
        """See that the settings are right, as far as they can be read without what opens encrypted ones.

        Args:
            files: whether the files that they name have to be on this machine.

        Raises:
            StackFileError: they are not.
        """
        problems = list(self.problems)
        if not self.encrypted():
            wrong = {table for problem in problems for table in self.tables if _is_in(problem.path, table)}
            raw = {key: "null" if key in wrong else json.dumps(value) for key, value in self.tables.items()}
            problems += find_problems(self.name, raw, files=files, skip=wrong)
        if problems:
            raise StackFileError(self.name, problems)


def read(name: str, path: Path) -> StackFile:
    """The stack's file.

    Raises:
        StackFileError: it is not well formed; every error has its line or its path.
    """
    text = _text(name, path)
    try:
        node = yaml.compose(text, Loader=_Loader)
        problems = list(_repeated(path.name, node)) if node else []
        document = parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{path.name}:{mark.line + 1}:{mark.column + 1}" if mark else path.name
        said = " ".join(filter(None, (error.problem, error.context)))
        raise StackFileError(name, [Problem(at, f"is no YAML: {said}")]) from None
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        at = f"{path.name}:{line}"
        raise StackFileError(
            name, [Problem(at, f"has the character {chr(error.character)!r}, which YAML does not allow")]
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise StackFileError(name, [Problem(path.name, f"is no YAML: {' '.join(str(error).split())}")]) from None
    problems += _wrong_shape(path.name, document)
    if not isinstance(document, dict) or not isinstance(document.get("config"), dict):
        raise StackFileError(name, problems)
    named = ((str(key).removeprefix(f"{PROJECT}:"), value) for key, value in document["config"].items())
    return StackFile(name, text, document, {key: value for key, value in named if ":" not in key}, problems)


def parse(text: str) -> Any:
    """YAML as Pulumi understands it.

    Raises:
        YAMLError: it is none.
        ValueError: so is a value in it.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def _is_in(path: str, table: str) -> bool:
    return re.match(rf"{PROJECT}:{re.escape(table)}(?![A-Za-z0-9])", path) is not None


def _text(name: str, path: Path) -> str:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise StackFileError(name, [Problem(path.name, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise StackFileError(
            name, [Problem(f"{path.name}:{line}", f"is not UTF-8: {error.reason}; save the file as UTF-8")]
        ) from None
    return text


class _Loader(yaml.SafeLoader):
    """YAML as Pulumi reads it: only true and false are boolean, dates are text, no number has a colon."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp", ":int"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0|[1-9][0-9_]*|0[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)


def _repeated(file: str, node: yaml.Node, seen: tuple[yaml.Node, ...] = ()) -> Iterator[Problem]:
    """Keys that are there twice, of which the first would be lost.

    Raises:
        ComposerError: a value contains itself, by an alias.
    """
    if node in seen:
        raise ComposerError(None, None, "a value contains itself", node.start_mark)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    yield Problem(f"{file}:{line}", f"{key.value!r} is there twice, first in line {lines[key.value]}")
                lines.setdefault(key.value, line)
            yield from _repeated(file, value, (*seen, node))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(file, value, (*seen, node))


def _wrong_shape(file: str, document: Any) -> Iterator[Problem]:
    """What is no stack file's, though it is YAML."""
    if document is None:
        yield Problem(file, "is empty; docs/settings.md has the tables that are needed, below `config:`")
    elif not isinstance(document, dict):
        yield Problem(file, f"is {_kind(document)}; it should have `config:`, and below it the stack's tables")
    else:
        for key in document:
            if key not in ("config", *_PULUMIS):
                hint = "; a table goes below `config:`" if str(key).removeprefix(f"{PROJECT}:") in TABLES else ""
                yield Problem(f"{file}: {key}", f"unknown; known are config, {', '.join(_PULUMIS)}{hint}")
        for key in ("secretsprovider", *SALT):
            if key in document and not isinstance(document[key], str):
                yield Problem(f"{file}: {key}", f"is {_kind(document[key])}, should be text")
        config = document.get("config")
        if not isinstance(config, dict):
            what = "missing" if config is None else f"is {_kind(config)}"
            yield Problem(f"{file}: config", f"{what}; it should have the stack's tables, see docs/settings.md")
        else:
            yield from _wrong_config(config)


def _wrong_config(config: Mapping[Any, Any]) -> Iterator[Problem]:
    keys = [key for key in config if isinstance(key, str)]
    yield from key_problems(keys)
    for key, value in config.items():
        name = key if not isinstance(key, str) or ":" in key else f"{PROJECT}:{key}"
        if not isinstance(key, str):
            yield Problem(f"config: {key}", "is no text; should be the name of a table")
        elif name.startswith(f"{PROJECT}:") and value is None:
            yield Problem(name, "is empty; give it a value, or leave it out")
        else:
            yield from _wrong_value(name, value)


def _wrong_value(path: str, value: Any) -> Iterator[Problem]:
    """What JSON, in which the settings go to the program, does not have; and what is encrypted where it cannot be."""
    if _is_secure(value):
        yield from _wrong_secret(path, value[_SECURE])
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield Problem(f"{path}.{key}", "the key is no text; put it in quotes")
            yield from _wrong_value(f"{path}.{key}", inner)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _wrong_value(f"{path}[{i}]", inner)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"{value}: should be a number")
    elif not isinstance(value, (str, int, float, type(None))):
        yield Problem(path, f"is {_kind(value)}, which settings do not have")


def _wrong_secret(path: str, encrypted: Any) -> Iterator[Problem]:
    if not isinstance(encrypted, str) or not _is_ciphertext(encrypted):
        yield Problem(path, f"{_SECURE}: should be what `pulumi config set --secret` wrote")
    if path.removeprefix(f"{PROJECT}:") in _NEEDED_BEFORE:
        yield Problem(path, "is encrypted, but is needed before Pulumi runs; encrypt other values of the table")


def _is_ciphertext(text: str) -> bool:
    """Whether a text is what Pulumi's secrets providers write: base64 alone is what Pulumi Cloud does.

    The others write `v1:<nonce>:<sealed>`: `EncryptValue` in `sdk/go/common/resource/config/crypt.go` of Pulumi's sources.
    """
    *version, sealed = text.split(":")
    try:
        nonce, length = b64decode(version[1], validate=True) if version else b"", len(b64decode(sealed, validate=True))
    except (ValueError, IndexError):
        return False
    return length >= _TAG_BYTES and (not version or (version[0], len(version), len(nonce)) == ("v1", 2, _NONCE_BYTES))


def _is_secure(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {_SECURE}


def _encrypted(value: Any, path: str) -> Iterator[str]:
    if _is_secure(value):
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _encrypted(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _encrypted(inner, f"{path}[{i}]")


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", bytes: "binary"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__)
