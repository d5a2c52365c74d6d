"""What Pulumi prints is read strictly: nothing that is not known goes by unseen."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from actions.protocol import Failure
from review.preview import could_not, read
from tests.unit.review.conftest import PREVIEWS, captured, document, step


@pytest.mark.parametrize("name", [path.stem for path in PREVIEWS.glob("*.json")])
def test_the_steps_agree_with_the_engines_own_counts(name: str) -> None:
    preview = captured(name)
    counted = {action: len(preview.having(action)) for action in ("create", "update", "replace", "delete")}
    summed = {op: count for op, count in preview.change_summary.items() if op != "same"}
    assert {action: count for action, count in counted.items() if count} == summed


def test_a_urn_is_taken_apart() -> None:
    (machine, *_) = captured("remove-vm").having("replace")
    assert captured("remove-vm").stack == "dev"
    assert machine.name == "proof-calls"
    assert machine.qualified_type == "istio-vms:samples:ProofOfTraffic$command:local:Command"
    assert machine.type == "command:local:Command"


def test_a_name_may_have_colons() -> None:
    made = read(json.dumps(document(step("create", name="a::b$c")))).steps[0]
    assert (made.type, made.name) == ("kubernetes:core/v1:Service", "a::b$c")


def test_a_new_stack_is_known_by_its_root() -> None:
    assert captured("new-stack").new
    assert not captured("add-vm").new


def test_a_preview_fails_by_its_errors() -> None:
    assert captured("wrong-settings").failed
    assert not captured("no-change").failed
    assert could_not("no such stack").failed


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda one: one.pop(key)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda one: one.update(op="explode"), "steps.0.op"),
        (lambda one: one.update(urn="app"), "steps.0.urn"),
        (
            lambda one: one.update(detailedDiff={"spec": {"kind": "moved", "inputDiff": True}}),
            "steps.0.detailedDiff.spec.kind",
        ),
        (lambda one: one.update(plan="hunter2"), "steps.0.plan"),
        (without("urn"), "steps.0.urn"),
        (without("detailedDiff"), "steps.0.detailedDiff"),
    ],
)
def test_an_unknown_step_is_named_without_its_values(change: Callable[[dict[str, Any]], object], named: str) -> None:
    one = step("update")
    change(one)
    with pytest.raises(Failure, match=r"of Pulumi 3\.250\.0 prints") as caught:
        read(json.dumps(document(one)))
    assert f"  - {named}: " in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Previewing update (dev):",
        "[]",
        '{"sequence": 1, "timestamp": 2, "preludeEvent": {}}',
        '{"steps": [], "changeSummary": {}, "version": 2}',
        '{"changeSummary": {"explode": 1}}',
    ],
)
def test_another_format_is_an_error(text: str) -> None:
    with pytest.raises(Failure, match=r"of Pulumi 3\.250\.0 prints"):
        read(text)


@pytest.mark.parametrize("text", ["{}", '{"steps": []}', '{"diagnostics": [{"severity": "warning", "message": "x"}]}'])
def test_a_preview_that_says_nothing_is_not_one_without_changes(text: str) -> None:
    with pytest.raises(Failure, match="neither a summary of changes nor an error"):
        read(text)
