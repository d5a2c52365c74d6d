"""The policy pack: what the engine runs for `--policy-pack review/pack`.

Every rule becomes a policy of CrossGuard, mandatory unless `--policy-pack-config` says otherwise. The engine shows no
pack what an update would delete or replace: review/judge.py has the `changes` of a rule judged.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

# The engine runs this folder by itself, so Python looks for modules here alone.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from review.model import Resource, Rule
from review.rules import RULES
from review.values import UNKNOWN_STRING

_declared: dict[str, Resource] = {}
"""The resources by URN, as the policies about single ones have seen them. Those about a stack are shown outputs, and a Helm release that is
to be made has none, so they are told these inputs."""


def policy(rule: Rule) -> Policy:
    """A rule as the engine knows policies: about single resources, or about all of a stack's."""
    schema = PolicyConfigSchema(properties={name: dict(option) for name, option in rule.options.items()})
    if rule.resource:
        return ResourceValidationPolicy(rule.name, rule.description, _on_resource(rule), config_schema=schema)
    return StackValidationPolicy(rule.name, rule.description, _on_stack(rule), config_schema=schema)


def _on_resource(rule: Rule) -> Any:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        assert rule.resource
        resource = _declared[args.urn] = _resource(args.urn, args.props)
        for message in rule.resource(resource, rule.configured(args.get_config())):
            report(message, None)

    return validate


def _on_stack(rule: Rule) -> Any:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        assert rule.stack
        resources = [_declared.get(one.urn) or _resource(one.urn, one.props) for one in args.resources]
        for violation in rule.stack(resources, rule.configured(args.get_config())):
            report(violation.message, violation.urn)

    return validate


def _resource(urn: str, properties: Mapping[str, Any]) -> Resource:
    """What the engine shows has its secrets in the clear, unmarked."""
    return Resource(urn, _plain(properties), secrets_hidden=False)


def _plain(value: Any) -> Any:
    """Dicts and lists in place of what raises when an unknown value is touched."""
    if isinstance(value, Mapping):
        return {key: _get(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_get(value, i) for i in range(len(value))]
    return value


def _get(container: Any, key: Any) -> Any:
    try:
        return _plain(container[key])
    except UnknownValueError:
        return UNKNOWN_STRING


def unbuffered() -> None:
    """Let the engine read at once what is written: `PolicyPack` writes its port and does not flush, so the engine would wait for ever."""
    sys.stdout = io.TextIOWrapper(io.FileIO(sys.stdout.fileno(), "w", closefd=False), write_through=True)


if __name__ == "__main__":
    unbuffered()
    PolicyPack("istio-vms", [policy(rule) for rule in RULES], EnforcementLevel.MANDATORY)
