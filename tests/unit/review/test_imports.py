"""Imports go one way: the commands import review, which knows none of them and nothing of the lab."""

import ast
import sys
from pathlib import Path

import pytest

REVIEW = Path(__file__).parents[3] / "review"
MAY_IMPORT = {"review", "actions", "components", "pydantic", "rich", *sys.stdlib_module_names}


def imported(file: Path) -> set[str]:
    """The top-level packages that a module imports."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("file", sorted(REVIEW.rglob("*.py")), ids=lambda file: str(file.relative_to(REVIEW)))
def test_review_imports_no_commands(file: Path) -> None:
    pack = {"pulumi_policy"} if file.parent.name == "pack" else set[str]()
    assert imported(file) - MAY_IMPORT - pack == set()


def test_what_posts_needs_nothing_but_python() -> None:
    assert imported(REVIEW / "post.py") <= sys.stdlib_module_names
