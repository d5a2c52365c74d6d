"""The differ: leaves that differ, with both values; paths in Pulumi's notation."""

import pytest

from review.differences import Entry, Path, at, compare, parsed, under, written
from review.values import ABSENT, UNKNOWN, Secret


def test_every_leaf_that_differs_is_told_with_both_values() -> None:
    old = {"same": 1, "gone": 1, "table": {"a": 1, "b": 2}, "list": [1, 2, 3], "shape": {"x": 1}}
    new = {"same": 1, "table": {"a": 1, "b": 3, "c": 4}, "list": [1, 9], "shape": "text", "new": None}
    assert list(compare(old, new)) == [
        (("gone",), 1, ABSENT),
        (("table", "b"), 2, 3),
        (("table", "c"), ABSENT, 4),
        (("list", 1), 2, 9),
        (("list", 2), 3, ABSENT),
        (("shape",), {"x": 1}, "text"),
        (("new",), ABSENT, None),
    ]


def test_lists_are_aligned_as_is_asked_or_differ_as_a_whole() -> None:
    old, new = {"vms": [{"name": "a"}, {"name": "b", "cpus": 1}]}, {"vms": [{"name": "b", "cpus": 2}]}

    def by_name(*sides: list[dict[str, object]]) -> tuple[dict[Entry, object], ...]:
        return tuple({Entry(one["name"]): one for one in side} for side in sides)

    found = [(written(path), was, now) for path, was, now in compare(old, new, by_name)]
    assert found == [("vms[a]", {"name": "a"}, ABSENT), ("vms[b].cpus", 1, 2)]
    assert list(compare(old, new, lambda *_: None)) == [(("vms",), old["vms"], new["vms"])]


def test_secrets_are_compared_and_stay_secrets() -> None:
    assert list(compare({"a": "x"}, {"a": Secret("x")})) == [(("a",), "x", Secret("x"))]
    assert list(compare({"a": Secret("x")}, {"a": Secret("x")})) == []
    found = list(compare({"a": Secret({"b": 1})}, {"a": Secret({"b": 2, "c": 3})}))
    assert found == [(("a", "b"), Secret(1), Secret(2)), (("a", "c"), Secret(None), Secret(3))]
    assert "hunter2" not in repr(Secret("hunter2"))


def test_an_unknown_differs() -> None:
    assert list(compare({"a": "x"}, {"a": UNKNOWN})) == [(("a",), "x", UNKNOWN)]


def test_what_is_at_a_path() -> None:
    value = {"a": [{"b": 1}], "s": Secret({"k": "x"}), "u": UNKNOWN}
    assert at(value, ("a", 0, "b")) == 1
    assert at(value, ("s", "k")) == Secret("x")
    assert at(value, ("s", "none")) == Secret(None)
    assert at(value, ("u", "deeper")) is UNKNOWN
    assert [at(value, path) for path in (("none",), ("a", 1), ("a", "b"), ("a", 0, "b", 0))] == [ABSENT] * 4


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
    roots: list[Path] = [("metadata", "name")]
    assert under(("metadata", "name"), roots)
    assert under(("metadata",), roots)
    assert not under(("metadata", "labels"), roots)
