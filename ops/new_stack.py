"""Writes the stack file of a new stack: the values and comments of another one, and every setting explained.

Values are taken over as text, line by line, so that their own comments and their form stay as they are.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from components.settings import DriverName, Settings, parse
from ops import stack_file, workspace
from ops.errors import OpsError
from ops.explained import Explained, Kind, Section, sections
from ops.stack_file import StackFile, StackFileError
from ops.workspace import PROJECT

WIDTH = 120


def write(name: str, source: str) -> list[str]:
    """Write `Pulumi.<name>.yaml` from another stack's, and what the policies are to know of it; what to tell the user.

    Raises:
        OpsError: the name cannot be a stack's, the file is there already, or the other stack is not known or cannot be copied.
    """
    files = workspace.stack_files()
    if not name:
        raise OpsError("NAME= is missing: make new-stack NAME=… [FROM=dev]")
    if name in files:
        raise OpsError(f"Pulumi.{name}.yaml is there already; it stays as it is")
    if source not in files:
        raise OpsError(f"FROM={source}: there is no Pulumi.{source}.yaml; stacks are {', '.join(files)}")
    file = workspace.read_stack_file(source)
    text = file.text.rstrip() + "\n"
    if paths := file.encrypted():
        raise OpsError(
            f"Pulumi.{source}.yaml has encrypted values, which only that stack can read: {', '.join(paths)}. "
            "Copy the file without them, and set them anew with `pulumi config set --secret`"
        )
    settings = _checked(name, source, file)
    written = workspace.ROOT / f"Pulumi.{name}.yaml"
    rendered = render(name, source, text, sections())
    if stack_file.parse(rendered)["config"] != stack_file.parse(text)["config"]:
        raise OpsError(f"Pulumi.{source}.yaml cannot be taken over line by line: put each setting on a line of its own")
    written.write_text(rendered)
    told = [f"wrote {written.name} from Pulumi.{source}.yaml; `make preview STACK={name}` shows what it would make"]
    told += _policies(name, settings)
    if settings.machines.driver is DriverName.NSPAWN:
        told.append(
            f"its bridges have the networks of {source}: change machines.networks before both are up on one host"
        )
    return told


def render(name: str, source: str, text: str, explained: Sequence[Section]) -> str:
    """The stack file, from the text of the other one."""
    lines = [
        f"# Stack {name}, made from Pulumi.{source}.yaml. Lines that begin with # and a space explain; those that begin with #name: are",
        "# settings with their defaults: remove the # to set them. docs/settings.md has more.",
    ]
    document = stack_file.parse(text)
    if provider := document.get("secretsprovider"):
        lines.append(f"secretsprovider: {provider}")
    lines.append("config:")
    given = _chunks(text, ("config",))
    for section in explained:
        lines.append("")
        lines += _section(section, f"{PROJECT}:{section.name}", text, given)
    return "\n".join(lines) + "\n"


def _section(section: Section, key: str, text: str, given: Mapping[str, Sequence[str]]) -> Iterator[str]:
    values = _chunks(text, ("config", key))
    kind = _kind(section, values)
    for other in section.kinds:
        if other is not kind:
            yield from _comment(other.title, 2)
            yield from _explanations(other.settings, 2)
            if kind:
                yield ""
    if kind is None:
        yield from given.get(key) or [f"  #{key}: {_default(section)}"]
        return
    yield from _comment(kind.title, 2)
    yield from _head(given[key])
    for setting in kind.settings:
        yield from _explanations([setting], 4)
        yield from values.get(setting.name) or [f"    #{setting.name}: {_json(setting.value)}"]


def _kind(section: Section, values: Mapping[str, Any]) -> Kind | None:
    """The kind of table that has these settings; None where they are not one a line: no table, a list, or on one line."""
    kinds = (kind for kind in section.kinds if values.keys() <= {setting.name for setting in kind.settings})
    return next(kinds, None) if values else None


def _explanations(settings: Iterable[Explained], indent: int) -> Iterator[str]:
    for setting in settings:
        for one in (setting, *setting.parts):
            yield from _comment(f"{one.name} ({one.default}): {one.meaning}", indent)


def _default(section: Section) -> str:
    """What applies without the table."""
    if section.is_list:
        return "[]"
    [kind] = section.kinds
    return _json({setting.name: setting.value for setting in kind.settings})


def _head(lines: Sequence[str]) -> Sequence[str]:
    """A table's key, with the comments above it and beside it."""
    comments = itertools.takewhile(lambda line: line.lstrip().startswith("#"), lines)
    return lines[: sum(1 for _ in comments) + 1]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str, indent: int) -> list[str]:
    prefix = " " * indent + "# "
    return textwrap.wrap(
        text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False, break_on_hyphens=False
    )


def _chunks(text: str, path: Sequence[str]) -> dict[str, list[str]]:
    """The lines of each key of a mapping in the text, with the comments above it; empty where the mapping is not one key a line."""
    node: Any = yaml.compose(text)
    for key in path:
        node = (
            next((value for k, value in node.value if k.value == key), None)
            if isinstance(node, yaml.MappingNode)
            else None
        )
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return {}
    lines = text.splitlines()
    keys = [key for key, _ in node.value]
    starts = [_above(lines, key.start_mark.line) for key in keys]
    ends = [*starts[1:], _last(lines, node)]
    return {
        key.value: _indented(lines[start:end], key.start_mark.column, 2 * len(path))
        for key, start, end in zip(keys, starts, ends, strict=True)
    }


def _above(lines: Sequence[str], line: int) -> int:
    """The first line of the comments right above a line."""
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
    return line


def _last(lines: Sequence[str], node: yaml.MappingNode) -> int:
    """Where a mapping ends, without comments and blank lines that follow it."""
    end = node.end_mark.line
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end


def _indented(lines: Sequence[str], has: int, wanted: int) -> list[str]:
    """Lines at another depth, without blank ones at the end."""
    moved = [f"{' ' * wanted}{line[has:]}" if line.strip() else "" for line in lines]
    while moved and not moved[-1]:
        moved.pop()
    return moved


def _checked(name: str, source: str, file: StackFile) -> Settings:
    """The settings under the new name.

    Raises:
        OpsError: they are not valid; for instance the name, which every machine's begins with.
    """
    try:
        dataclasses.replace(file, name=name).check()
    except StackFileError as error:
        raise OpsError(f"NAME={name}: with the settings of {source} this cannot be a stack\n{error}") from None
    return parse(name, {key: json.dumps(value) for key, value in file.tables.items()})


def _policies(name: str, settings: Settings) -> Iterator[str]:
    """Hold the stack to every policy, and write down what it exposes on purpose."""
    exposed = list(settings.mesh.exposed_services)
    file = workspace.ROOT / "review/levels" / f"{name}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"east-west-exposure": {"exposed": exposed}}, indent=2) + os.linesep)
        yield f"wrote review/levels/{name}.json: every policy is mandatory, and {', '.join(exposed) or 'no Service'} may be exposed"
