"""How Helm values are merged, and where charts come from."""

from typing import Any

import pytest

from components.mesh.charts import Charts, merged


@pytest.mark.parametrize(
    ("defaults", "over", "result"),
    [
        ({}, {}, {}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 3, "c": 4}, {"a": 3, "b": 2, "c": 4}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3}}}, {"a": {"b": {"c": 3, "d": 2}}}),
        ({"list": [1, 2]}, {"list": [3]}, {"list": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": {"b": 1}}, {"a": False}, {"a": False}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_tables_merge_and_anything_else_replaces(
    defaults: dict[str, Any], over: dict[str, Any], result: dict[str, Any]
) -> None:
    assert merged(defaults, over) == result


def test_merging_changes_neither() -> None:
    defaults, over = {"a": {"b": 1}}, {"a": {"c": [2]}}
    merged(defaults, over)["a"]["b"] = 9
    assert (defaults, over) == ({"a": {"b": 1}}, {"a": {"c": [2]}})


def test_a_folder_has_a_chart_per_sub_folder_and_no_version() -> None:
    assert Charts("1.30.3", directory="/charts")._source("istiod") == {"chart": "/charts/istiod"}


def test_an_oci_repository_is_part_of_the_charts_name() -> None:
    source = Charts("1.30.3", repository="oci://example.org/charts")._source("gateway")
    assert source == {"chart": "oci://example.org/charts/gateway", "version": "1.30.3"}


def test_a_https_repository_is_named_beside_the_chart() -> None:
    source = Charts("1.30.3", repository="https://example.org/charts")._source("base")
    options = source.pop("repository_opts")
    assert source == {"chart": "base", "version": "1.30.3"}
    assert options.repo == "https://example.org/charts"


def test_a_folder_wins_over_a_repository() -> None:
    charts = Charts("1.30.3", directory="/charts", repository="https://example.org/charts")
    assert charts._source("base") == {"chart": "/charts/base"}
