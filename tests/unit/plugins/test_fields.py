from __future__ import annotations

from lab.plugins.command import fields
from lab.plugins.values import UNKNOWN, Secret

TESTS = {"text": fields.text, "list": fields.texts, "table": fields.text_table, "mode": fields.one_of("a", "b")}


def test_good_inputs_have_no_problems() -> None:
    values = {"text": Secret("x"), "list": ["a", UNKNOWN], "table": {"a": Secret("b")}, "mode": UNKNOWN}
    assert fields.problems(values, TESTS, ("text",)) == {}


def test_bad_inputs_are_named_without_their_values() -> None:
    values = {"list": [1], "table": {"a": 1}, "mode": "secret word", "other": 1}
    found = fields.problems(values, TESTS, ("text",))
    assert found.keys() == {"text", "list", "table", "mode", "other"}
    assert "secret word" not in str(found)
