from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.harness import Program, official_plugins
from tests.engine.kube_api import KubeApi

Start = Callable[[str], Program]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "stand_in: what only the stand-ins promise, or what they do otherwise on purpose"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario runs with the stand-ins, and with the official plugins where those are installed."""
    if "plugins" in metafunc.fixturenames:
        only_stand_in = metafunc.definition.get_closest_marker("stand_in") or not official_plugins()
        metafunc.parametrize("plugins", ["stand-ins"] if only_stand_in else ["stand-ins", "official"])


@pytest.fixture
def start(plugins: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a program of tests/engine/programs; what it made is destroyed at the end."""
    started: list[Program] = []

    def begin(name: str) -> Program:
        started.append(Program.start(name, tmp_path, official=plugins == "official"))
        return started[-1]

    yield begin
    for program in started:
        program.remove()


@pytest.fixture(scope="session")
def kube_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApi]:
    with KubeApi.started(tmp_path_factory.mktemp("k3s")) as api:
        yield api


@pytest.fixture
def namespace(kube_api: KubeApi) -> Iterator[str]:
    """A namespace of its own for one test, gone afterwards."""
    name = kube_api.make_namespace()
    yield name
    kube_api.core.delete_namespace(name)
