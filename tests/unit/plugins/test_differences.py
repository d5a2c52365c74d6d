from __future__ import annotations

import pytest

from lab.plugins.differences import Path, compare, parsed, under, without, written
from lab.plugins.values import UNKNOWN, Secret


def test_compare_names_every_leaf() -> None:
    old = {"same": 1, "gone": 1, "table": {"a": 1, "b": 2}, "list": [1, 2, 3], "shape": {"x": 1}}
    new = {"same": 1, "table": {"a": 1, "b": 3, "c": 4}, "list": [1, 9], "shape": "text", "new": None}
    assert compare(old, new) == {
        ("gone",): "delete",
        ("table", "b"): "update",
        ("table", "c"): "add",
        ("list", 1): "update",
        ("list", 2): "delete",
        ("shape",): "update",
        ("new",): "add",
    }


def test_a_value_that_turns_secret_is_a_change() -> None:
    assert compare({"a": "x"}, {"a": Secret("x")}) == {("a",): "update"}
    assert compare({"a": Secret("x")}, {"a": Secret("x")}) == {}
    assert compare({"a": Secret({"b": 1})}, {"a": Secret({"b": 2})}) == {("a", "b"): "update"}


def test_an_unknown_is_a_change() -> None:
    assert compare({"a": "x"}, {"a": UNKNOWN}) == {("a",): "update"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("spec", "ports", 0, "port"), "spec.ports[0].port"),
        (("metadata", "labels", "app.kubernetes.io/name"), 'metadata.labels["app.kubernetes.io/name"]'),
        (("a", 'quo"te'), 'a["quo\\"te"]'),
        (("triggers", 2), "triggers[2]"),
    ],
)
def test_paths_are_written_and_parsed(path: Path, text: str) -> None:
    assert written(path) == text
    assert parsed(text) == path


def test_under_covers_what_is_inside_and_what_holds_it() -> None:
    roots = [("metadata", "name")]
    assert under(("metadata", "name"), roots)
    assert under(("metadata",), roots)
    assert not under(("metadata", "labels"), roots)


def test_ignored_changes() -> None:
    changes = compare({"a": {"b": 1}, "c": 1}, {"a": {"b": 2}, "c": 2})
    assert without(changes, [parsed("a.b")]) == {("c",): "update"}
    assert without(changes, [parsed("a")]) == {("c",): "update"}
    assert without(changes, [parsed("a.b.deeper")]) == changes
