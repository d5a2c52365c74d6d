"""Whose sidecars log the calls they carry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_components import run_program
from tests.unit.test_settings import LAB


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ({"accessLogs": "off"}, set[tuple[str, str]]()),
        ({"accessLogs": "mesh"}, {("istio-system", "mesh-default")}),
        (
            {"accessLogs": "namespaces", "namespaces": ["vmns", "sample"]},
            {("vmns", "access-logs"), ("sample", "access-logs")},
        ),
    ],
)
def test_logs_are_of_the_mesh_or_of_the_namespaces_asked_for(
    wanted: dict[str, Any], made: set[tuple[str, str]]
) -> None:
    recorder = run_program({**LAB, "telemetry": wanted})
    found = [args.inputs for args in recorder.made.values() if args.inputs.get("kind") == "Telemetry"]
    assert {(inputs["metadata"]["namespace"], inputs["metadata"]["name"]) for inputs in found} == made
    for inputs in found:
        assert inputs["apiVersion"] == "telemetry.istio.io/v1"
        assert inputs["spec"] == {"accessLogging": [{"providers": [{"name": "envoy"}]}]}
