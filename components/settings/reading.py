"""From what Pulumi hands over to `Settings`: the only read of `pulumi.Config`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

import pulumi
from pulumi.runtime import config as runtime_config
from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from components.settings.artifacts import missing_files, missing_in
from components.settings.checks import check
from components.settings.problems import PROJECT, Problem, SettingsError, without_values
from components.settings.salvage import Left
from components.settings.stack import Settings
from components.settings.tables import (
    ClusterSettings,
    ExistingClusterSettings,
    MachinesSettings,
    MeshSettings,
    PolicySettings,
    ProtectionSettings,
    SampleSettings,
    TelemetrySettings,
    TrafficSettings,
    WorkloadSettings,
)

_K3S, _EXISTING = "<k3s>", "<existing>"
"""What stands in an error's place for the kind of cluster it is about; no key can be called that."""
_K3S_KEYS = {field.alias for field in ClusterSettings.model_fields.values()}


def _kind_of_cluster(table: Any) -> str:
    return _EXISTING if isinstance(table, dict) and "existing" in table else _K3S


_Cluster = Annotated[
    Annotated[ClusterSettings, Tag(_K3S)] | Annotated[ExistingClusterSettings, Tag(_EXISTING)],
    Discriminator(_kind_of_cluster),
]
_SECTIONS: dict[str, TypeAdapter[Any]] = {
    "machines": TypeAdapter(MachinesSettings),
    "cluster": TypeAdapter(_Cluster),
    "mesh": TypeAdapter(MeshSettings),
    "workloads": TypeAdapter(tuple[WorkloadSettings, ...]),
    "samples": TypeAdapter(SampleSettings),
    "policies": TypeAdapter(PolicySettings),
    "telemetry": TypeAdapter(TelemetrySettings),
    "traffic": TypeAdapter(tuple[TrafficSettings, ...]),
    "protection": TypeAdapter(ProtectionSettings),
}
TABLES = tuple(_SECTIONS)
"""The names of all tables."""
_OTHERS = ("pulumi", "command", "kubernetes")
"""Who else reads `config`: Pulumi and the providers."""
_DEFAULTS: dict[str, Any] = {
    "workloads": (),
    "samples": SampleSettings(),
    "policies": PolicySettings(),
    "telemetry": TelemetrySettings(),
    "traffic": (),
    "protection": ProtectionSettings(),
}


def load() -> Settings:
    """Read and validate the settings of the stack being run.

    Files that are named but not there are errors when something is about to be made and warnings in a preview, which
    must work on a machine that has none of them.

    Raises:
        SettingsError: with every error at once.
    """
    prefix = f"{PROJECT}:"
    # pulumi.Config only answers for keys one knows; unknown ones have to be seen to be refused.
    everything = runtime_config.CONFIG.get()
    raw = {key.removeprefix(prefix): value for key, value in everything.items() if key.startswith(prefix)}
    secret = {key for key in raw if runtime_config.is_config_secret(prefix + key)}
    applied = not pulumi.runtime.is_dry_run()
    problems = [*key_problems(list(everything)), *find_problems(pulumi.get_stack(), raw, secret, files=applied)]
    if problems:
        raise SettingsError(problems)
    settings = parse(pulumi.get_stack(), raw, secret)
    for problem in missing_files(settings):
        pulumi.log.warn(f"{problem} (an error when this is applied)")
    return settings


def key_problems(keys: Sequence[str]) -> Iterator[Problem]:
    """Keys of `config` that are nobody's: neither this project's, with its name in front or without, nor Pulumi's or a provider's.

    Unknown tables of the project are left to `find_problems`.
    """
    for key in keys:
        namespace, colon, name = key.partition(":")
        if not colon and f"{PROJECT}:{key}" in keys:
            yield Problem(f"config: {key}", f"is there twice, also as {PROJECT}:{key}")
        elif colon and (namespace not in (PROJECT, *_OTHERS) or not name):
            yield Problem(
                f"config: {key}",
                f"unknown; the stack's tables begin with {PROJECT}:, further settings with {', '.join(_OTHERS)}",
            )


def find_problems(
    stack: str,
    raw: Mapping[str, str],
    secret: set[str] | None = None,
    *,
    files: bool = False,
    skip: Collection[str] = (),
) -> list[Problem]:
    """All that is wrong with settings as Pulumi hands them over; see `parse`.

    Args:
        stack: the stack's name.
        raw: `machines`, `cluster`, … to their JSON text.
        secret: keys whose values must not be shown.
        files: whether files that are named and are not on this machine count.
        skip: tables of which it is known that they are wrong.
    """
    parsed, problems = _read(stack, raw, secret or set(), skip)
    return [*problems, *(missing_in(parsed) if files else ())]


def parse(stack: str, raw: Mapping[str, str], secret: set[str] | None = None) -> Settings:
    """Validate settings as Pulumi hands them over: a JSON text per top-level key.

    Args:
        stack: the stack's name; machine names begin with it.
        raw: `machines`, `cluster`, … to their JSON text.
        secret: keys whose values must not be shown.

    Raises:
        SettingsError: with every error at once.
    """
    parsed, problems = _read(stack, raw, secret or set())
    if problems:
        raise SettingsError(problems)
    return Settings(stack=stack, **parsed)


def _read(
    stack: str, raw: Mapping[str, str], secret: set[str], skip: Collection[str] = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """The tables that are right, and all problems."""
    problems: list[Problem] = []
    parsed, left = dict(_DEFAULTS), Left()
    for key in [*_SECTIONS, *sorted(set(raw) - set(_SECTIONS))]:
        if key not in _SECTIONS:
            problems.append(Problem(f"{PROJECT}:{key}", f"unknown; known are {', '.join(_SECTIONS)}"))
        elif key in skip:
            parsed.pop(key, None)
        elif key not in raw:
            if key not in _DEFAULTS:
                problems.append(Problem(f"{PROJECT}:{key}", "missing; this table is needed"))
        else:
            text = _json_text(raw[key])
            try:
                parsed[key] = _SECTIONS[key].validate_json(text, strict=True)
            except ValidationError as error:
                parsed.pop(key, None)
                problems += _problems(key, error, hide=key in secret)
                left.take(key, _SECTIONS[key], text, error)
    problems += left.told(check(stack, {**parsed, **left.tables}, incomplete=left.lists.keys()))
    hidden = [json.loads(_json_text(raw[key])) for key in secret if key in raw]
    return parsed, [without_values(problem, hidden) for problem in problems]


def _json_text(value: str) -> str:
    try:
        json.loads(value)
    except ValueError:
        return json.dumps(value)
    return value


def _problems(key: str, error: ValidationError, hide: bool) -> Iterator[Problem]:
    for item in error.errors(include_url=False):
        kind = next((part for part in item["loc"] if part in (_K3S, _EXISTING)), None)
        parts = [part for part in item["loc"] if part != kind]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden" and kind == _EXISTING and len(parts) == 1 and parts[0] in _K3S_KEYS:
            message = (
                "is for a k3s cluster that the stack makes; with cluster.existing there is none to make, so remove it"
            )
        elif item["type"] == "extra_forbidden":
            message = "unknown setting; see Pulumi.yaml for the known ones"
        elif item["type"] == "missing":
            message = "missing; this setting is needed"
        elif not hide:
            message = f"{json.dumps(item['input'], default=str)}: {message}"
        yield Problem(f"{PROJECT}:{key}{path}", message)
