"""What docs/settings.md and Pulumi.yaml say of settings, from their models; `make docs` writes it.

Generated text stands between marks, `<!-- generated: NAME -->` and `<!-- end -->` in Markdown, `# generated: NAME` and
`# end` in YAML. All other text is written by hand and stays.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping

from components.settings.descriptions import Described, Section, described, sections
from components.settings.tables import Artifact, Table

_BLOCK = re.compile(
    r"^(?P<begin>(?P<mark><!--|#) generated: (?P<name>\w+).*\n)(?:.*\n)*?(?P<end>(?P=mark) end.*)$", re.M
)
_APART: Mapping[str, type[Table]] = {"artifact": Artifact}
"""Tables that settings of several tables are: they have a block of their own, by its name."""
_PARTS = {"": "{%s}", "[]": "[{%s}]", ".<key>": "{<key>: {%s}}"}
"""How the parts of a setting are listed behind its name, by the step that leads to them."""
_WIDTH = 120


def settings_page(text: str) -> str:
    """docs/settings.md with its generated tables.

    Raises:
        ValueError: its marks are not those of the tables.
    """
    blocks = {section.name: _introduced(section) for section in sections()}
    blocks |= {name: _table(model) for name, model in _APART.items()}
    return _filled(text, {name: f"\n{block}\n" for name, block in blocks.items()})


def pulumi_project(text: str) -> str:
    """Pulumi.yaml with its generated `config`.

    Raises:
        ValueError: it has not the one mark, for that.
    """
    lines = [line for section in sections() for line in _declared(section)]
    return _filled(text, {"config": "\n".join(["config:", *lines])})


GENERATED: Mapping[str, Callable[[str], str]] = {"docs/settings.md": settings_page, "Pulumi.yaml": pulumi_project}
"""The files that have generated text, and what each becomes."""


def _filled(text: str, blocks: Mapping[str, str]) -> str:
    marked = [block["name"] for block in _BLOCK.finditer(text)]
    if sorted(marked) != sorted(blocks):
        raise ValueError(f"generated blocks should be {', '.join(blocks)}, but are {', '.join(marked) or 'none'}")
    return _BLOCK.sub(lambda block: f"{block['begin']}{blocks[block['name']]}\n{block['end']}", text)


def _introduced(section: Section) -> str:
    return "\n\n".join(f"{section.title(kind)}\n\n{_table(kind)}" for kind in section.kinds)


def _table(model: type[Table]) -> str:
    """A table in Markdown with a row for each setting, and one for each within it that is not described elsewhere."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    seen = frozenset(_APART.values())
    for setting in described(model, seen - {model}):
        rows += [f"| `{path}` | {one.default} | {one.meaning} |" for path, one in setting.rows()]
    return "\n".join(rows)


def _declared(section: Section) -> Iterator[str]:
    """What Pulumi has to know of a table, and what it tells of it."""
    yield f"  {section.name}:"
    yield f"    type: {'array' if section.is_list else 'object'}"
    yield "    description: >-"
    text = " ".join(f"{section.title(kind)} Settings: {_listed(described(kind))}." for kind in section.kinds)
    indent = " " * 6
    yield from textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    if section.is_list:
        yield from ("    items:", "      type: object", "    default: []")
    elif not section.needed:
        yield "    default: {}"


def _listed(settings: Iterable[Described]) -> str:
    """The names of settings, each with those within it."""
    return ", ".join(
        f"{setting.name} {_PARTS[setting.step] % _listed(setting.parts)}" if setting.parts else setting.name
        for setting in settings
    )
