"""Which stacks a changed file can touch."""

from pathlib import Path

import pytest

from review.touched import touched

ROOT = Path(__file__).parents[3]
DRIVERS = {"dev": "multipass", "lab": "nspawn", "staging": "existing"}
EVERY = sorted(DRIVERS)


@pytest.mark.parametrize(
    ("path", "stacks"),
    [
        ("Pulumi.dev.yaml", ["dev"]),
        ("Pulumi.lab.yaml", ["lab"]),
        ("Pulumi.gone.yaml", []),
        ("tests/engine/programs/kubernetes/Pulumi.yaml", []),
        ("Pulumi.yaml", EVERY),
        ("__main__.py", EVERY),
        ("actions/machines/nspawn/driver.py", EVERY),
        ("requirements.txt", EVERY),
        ("requirements-dev.txt", []),
        ("pyproject.toml", []),
        (".gitignore", []),
        (".gitignored", EVERY),
        (".ci/run", []),
        ("README.md", []),
        ("lab/README.md", []),
        ("docs/picture.svg", []),
        ("docsy/page.txt", EVERY),
        ("tests/unit/test_settings.py", []),
        ("verify/checks/dns.py", []),
        ("bench/__main__.py", []),
        ("ops/workspace.py", EVERY),
        ("review/comment.py", EVERY),
        (".github/workflows/pull-request.yml", EVERY),
        ("Makefile", EVERY),
        ("review/pack/PulumiPolicy.yaml", EVERY),
        ("sub/Pulumi.dev.yaml", EVERY),
        ("lab/images/catalog.py", ["lab"]),
        ("lab/rootfs.py", ["lab"]),
        ("tests/trial.py", []),
        ("lab/tools/go/k3s/go.mod", ["lab"]),
        ("lab/tools/go/pulumi/go.mod", EVERY),
        ("lab/tools/go/pulumi-language-python/go.sum", EVERY),
        ("lab/tools/recipes.py", EVERY),
        ("lab/plugins/differences.py", EVERY),
        ("something-new", EVERY),
    ],
)
def test_a_file_touches(path: str, stacks: list[str]) -> None:
    assert touched([path], DRIVERS) == stacks


def test_files_together_touch_what_each_does() -> None:
    assert touched(["docs/settings.md", "Pulumi.dev.yaml", "lab/rootfs.py"], DRIVERS) == ["dev", "lab"]
    assert touched([], DRIVERS) == []


def test_every_file_that_the_program_imports_touches_every_stack() -> None:
    imported = [path for path in (ROOT / "components").rglob("*.py")]
    assert len(imported) > 50
    for path in imported:
        assert touched([path.relative_to(ROOT).as_posix()], DRIVERS) == EVERY
