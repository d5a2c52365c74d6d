"""From what Pulumi hands over to `Settings`: the only read of `pulumi.Config`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import pulumi
from pulumi.runtime import config as runtime_config
from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from components.settings.artifacts import missing_files
from components.settings.checks import check
from components.settings.problems import PROJECT, Problem, SettingsError
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
    settings = parse(pulumi.get_stack(), raw, secret)
    missing = missing_files(settings)
    if missing and not pulumi.runtime.is_dry_run():
        raise SettingsError(missing)
    for problem in missing:
        pulumi.log.warn(f"{problem} (an error when this is applied)")
    return settings


def parse(stack: str, raw: Mapping[str, str], secret: set[str] | None = None) -> Settings:
    """Validate settings as Pulumi hands them over: a JSON text per top-level key.

    Args:
        stack: the stack's name; machine names begin with it.
        raw: `machines`, `cluster`, … to their JSON text.
        secret: keys whose values must not be shown.

    Raises:
        SettingsError: with every error at once.
    """
    problems: list[Problem] = []
    parsed = dict(_DEFAULTS)
    for key in [*_SECTIONS, *sorted(set(raw) - set(_SECTIONS))]:
        if key not in _SECTIONS:
            problems.append(Problem(f"{PROJECT}:{key}", f"unknown; known are {', '.join(_SECTIONS)}"))
        elif key not in raw:
            if key not in _DEFAULTS:
                problems.append(Problem(f"{PROJECT}:{key}", "missing; this table is needed"))
        else:
            try:
                parsed[key] = _SECTIONS[key].validate_json(_json_text(raw[key]), strict=True)
            except ValidationError as error:
                parsed.pop(key, None)
                problems += _problems(key, error, hide=key in (secret or set()))
    problems += check(stack, parsed)
    if problems:
        raise SettingsError(problems)
    return Settings(stack=stack, **parsed)


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
