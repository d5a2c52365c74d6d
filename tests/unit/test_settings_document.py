"""What docs/settings.md and Pulumi.yaml say of settings is what their models say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from components.settings import descriptions, document, tables
from components.settings.tables import Table, WhenUnset

ROOT = Path(__file__).parents[2]
TABLES = [value for value in vars(tables).values() if isinstance(value, type) and issubclass(value, Table)]


class Part(Table):
    """A part."""

    name: str = Field(description="name of the part")


class Whole(Table):
    """A table of every kind of setting.

    What is below is not told.
    """

    count: int = Field(default=3, description="how many")
    on: bool = Field(default=True, description="whether")
    some: tuple[Part, ...] = Field(default=(Part(name="a"),), description="several")
    more: tuple[Part, ...] = Field(default=(), description="the same")
    by_name: dict[str, Part] | None = Field(default=None, description="by their names")
    word: Annotated[str, WhenUnset("the `count`")] = Field(default="", description="a [word](words.md)")
    wanted: str = Field(description="what is needed")


@pytest.mark.parametrize("name", document.GENERATED)
def test_a_file_is_what_is_generated(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text == document.GENERATED[name](text), f"{name} is not what the settings' models say: run `make docs`"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_setting_and_table_is_described_on_one_line(table: type[Table]) -> None:
    assert table.__doc__
    for name, field in table.model_fields.items():
        assert field.description, f"{table.__name__}.{name} has no description"
        assert not {"\n", "|"} & set(field.description), f"{table.__name__}.{name} would break a row of Markdown"


def _described(settings: tuple[descriptions.Described, ...]) -> Iterator[tuple[str, str, str]]:
    for setting in settings:
        for path, one in setting.rows():
            yield path, one.default, one.meaning


def test_settings_come_with_their_parts_once_and_needed_ones_first() -> None:
    assert list(_described(descriptions.described(Whole))) == [
        ("wanted", "**needed**", "what is needed"),
        ("count", "`3`", "how many"),
        ("on", "`true`", "whether"),
        ("some", "`[{name: a}]`", "several"),
        ("some[].name", "**needed**", "name of the part"),
        ("more", "`[]`", "the same"),
        ("byName", "none", "by their names"),
        ("word", "the `count`", "a [word](words.md)"),
    ]


def test_parts_of_a_map_are_behind_its_keys() -> None:
    [_, *parts] = _described(descriptions.described(tables.TrafficSettings)[-1:])
    assert [path for path, _, _ in parts] == [
        f"outliers.<key>.{name}" for name in ("consecutiveErrors", "intervalSeconds", "ejectionSeconds")
    ]


def test_a_default_is_told_as_it_was_given_and_applied_as_a_whole() -> None:
    servers = next(one for one in descriptions.described(tables.ClusterSettings) if one.name == "servers")
    assert servers.default == "`{memory: 3Gi, count: 1}`"
    assert servers.value == {"image": None, "cpus": 2, "memory": "3Gi", "disk": "10Gi", "count": 1, "hosts": []}


@pytest.mark.parametrize("name", document.GENERATED)
def test_text_that_is_not_generated_stays(name: str) -> None:
    text = (ROOT / name).read_text()
    generated = document.GENERATED[name](text)
    assert document.GENERATED[name](f"before\n{text}after\n") == f"before\n{generated}after\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<!-- generated: mesh -->", "<!-- generated: mush -->"),
        ("<!-- generated: mesh -->", ""),
        ("<!-- end -->", ""),
        ("<!-- generated: mesh -->", "<!-- generated: cluster -->"),
    ],
)
def test_marks_that_are_not_the_tables_are_refused(before: str, after: str) -> None:
    text = (ROOT / "docs/settings.md").read_text()
    with pytest.raises(ValueError, match=r"generated blocks should be machines, .*, artifact, but are"):
        document.settings_page(text.replace(before, after, 1))
    with pytest.raises(ValueError, match="but are none"):
        document.pulumi_project("name: istio-vms\n")
