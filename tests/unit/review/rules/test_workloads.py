"""Policy workload-resources."""

from typing import Any

import pytest

from review.values import UNKNOWN_STRING
from tests.unit.review.rules.conftest import deployment, kubernetes, said

FULL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}


@pytest.mark.parametrize(
    ("resources", "missing"),
    [
        (None, "requests.cpu, requests.memory, limits.cpu, limits.memory"),
        ({"requests": FULL["requests"]}, "limits.cpu, limits.memory"),
        ({**FULL, "limits": {"cpu": "1"}}, "limits.memory"),
    ],
)
def test_a_container_has_requests_and_limits(resources: Any, missing: str) -> None:
    (message,) = said(
        "workload-resources", deployment({"name": "a", "resources": resources}, {"name": "b", "resources": FULL})
    )
    assert message.startswith(f"container a has no {missing}:")


@pytest.mark.parametrize("resources", [FULL, UNKNOWN_STRING, {**FULL, "limits": UNKNOWN_STRING}])
def test_all_of_them_and_not_known_yet_are_right(resources: Any) -> None:
    assert said("workload-resources", deployment({"name": "a", "resources": resources})) == []


def test_what_is_asked_for_can_be_chosen() -> None:
    assert said("workload-resources", deployment({"name": "a", "resources": {}}), requests=[], limits=[]) == []


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"])
def test_every_kind_that_runs_containers(kind: str) -> None:
    pod = {"initContainers": [{"name": "first"}], "containers": [{"name": "second"}]}
    template = {"template": {"spec": pod}}
    spec: Any = {"Pod": pod, "CronJob": {"jobTemplate": {"spec": template}}}.get(kind, template)
    messages = said("workload-resources", kubernetes(kind, spec=spec))
    assert [message.split()[1] for message in messages] == ["first", "second"]
