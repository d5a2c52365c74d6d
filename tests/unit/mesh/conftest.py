"""The lab's program under Pulumi's mocks, run once for all tests of the mesh that only look."""

from __future__ import annotations

import pytest

from tests.unit.test_components import Recorder, run_program
from tests.unit.test_settings import LAB


@pytest.fixture(scope="package")
def lab() -> Recorder:
    return run_program(LAB)
