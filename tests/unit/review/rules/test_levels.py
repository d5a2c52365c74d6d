"""Levels and options: defaults, what a file changes, and what it cannot say."""

import json
from pathlib import Path
from typing import Any

import pytest

from actions.protocol import Failure
from components.settings import SettingsError, parse
from review.rules import levels
from review.rules.levels import DEFAULT, FOLDER, Levels
from tests.unit.review.rules.conftest import BY_NAME
from tests.unit.test_settings import STACKS as STACK_NAMES
from tests.unit.test_settings import stack_file

MTLS, MACHINES = BY_NAME["mtls-strict"], BY_NAME["protected-machines"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "levels.json"


def test_what_a_file_does_not_name_is_mandatory_and_has_its_defaults(file: Path) -> None:
    file.write_text("{}")
    levels = Levels.read(file)
    assert {levels.level(rule) for rule in BY_NAME.values()} == {"mandatory"}
    assert levels.options(MACHINES) == {"machines": ["*"]}


def test_without_a_file_every_policy_but_exposure_is_mandatory() -> None:
    levels = Levels.of_stack("nobodys")
    advised = {name for name, rule in BY_NAME.items() if levels.level(rule) != "mandatory"}
    assert advised == {"east-west-exposure"}
    assert {levels.level(BY_NAME[name]) for name in advised} == {"advisory"}
    assert all(levels.options(rule) == rule.configured({}) for rule in BY_NAME.values())


@pytest.mark.parametrize("stack", STACK_NAMES)
def test_stacks_to_try_things_in_are_advised_only(stack: str) -> None:
    levels = Levels.of_stack(stack)
    expected = "advisory" if stack in ("dev", "lab") else "mandatory"
    assert {levels.level(rule) for rule in BY_NAME.values()} == {expected}


def test_every_file_is_of_a_stack_of_the_repository_but_the_default() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir() if path != DEFAULT) == STACK_NAMES


def test_no_stack_has_the_name_of_the_default() -> None:
    with pytest.raises(SettingsError, match=DEFAULT.stem):
        parse(DEFAULT.stem, {key: json.dumps(value) for key, value in stack_file("lab").items()})


@pytest.mark.parametrize("everyone", ["advisory", {"enforcementLevel": "advisory"}])
def test_a_policys_own_level_wins_over_that_of_all(file: Path, everyone: Any) -> None:
    file.write_text(
        json.dumps({"all": everyone, "mtls-strict": "mandatory", "protected-machines": {"machines": ["a"]}})
    )
    levels = Levels.read(file)
    assert (levels.level(MTLS), levels.level(MACHINES)) == ("mandatory", "advisory")
    assert levels.options(MACHINES) == {"machines": ["a"]}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"mtls": "advisory"}, "mtls is no policy"),
        ({"all": "remediate"}, "a level is"),
        ({"all": None}, "a level is"),
        ({"mtls-strict": {"machines": []}}, "mtls-strict has no option machines"),
        ({"all": {"machines": []}}, "all has no option machines"),
        ([], "not a JSON object"),
    ],
)
def test_what_cannot_be_followed_is_refused(file: Path, document: Any, why: str) -> None:
    file.write_text(json.dumps(document))
    with pytest.raises(Failure, match=why):
        Levels.read(file)


def test_what_is_no_json_is_refused(file: Path) -> None:
    file.write_text("all: advisory")
    with pytest.raises(Failure, match="cannot be read"):
        Levels.read(file)


def test_a_file_where_an_earlier_version_had_it_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.json").write_text("{}")
    monkeypatch.setattr(levels, "FORMER", tmp_path)
    with pytest.raises(Failure, match=r"git mv policy/stacks/mine\.json review/levels/"):
        Levels.of_stack("mine")
    assert Levels.of_stack("lab")
