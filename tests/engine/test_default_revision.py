"""The release that makes a revision the default one, on a real API: what istiod writes into its objects stays when it moves."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.engine.harness import Program
from tests.engine.kube_api import KubeApi

CHART = Path(__file__).parents[2] / "components/mesh/default_revision"
BUNDLE = base64.b64encode(b"istiod's own").decode()
TAG, VALIDATOR = "istio-revision-tag-default", "istiod-default-validator"


@pytest.fixture
def admission(kube_api: KubeApi) -> Iterator[Any]:
    """The API of webhooks, which are of no namespace: what another test left there is gone."""
    yield client.AdmissionregistrationV1Api(kube_api.core.api_client)


@pytest.fixture
def program(start: Callable[[str], Program], kube_api: KubeApi) -> Program:
    begun = start("kubernetes")
    begun.configure(kubeconfig=kube_api.kubeconfig, provider={"cluster_identifier": "one"})
    shutil.copytree(CHART, begun.folder / "default_revision")
    return begun


def release(namespace: str, revision: str) -> dict[str, Any]:
    return {
        "default": {
            "name": "default", "chart": "./default_revision", "namespace": namespace, "timeout": 60, "values": {"revision": revision},
        }
    }  # fmt: skip


def test_it_moves_in_place_and_keeps_what_istiod_has_written(
    program: Program, kube_api: KubeApi, admission: Any, namespace: str
) -> None:
    program.configure(releases=release(namespace, "old"))
    assert not program.up().failed
    (validator,) = admission.read_validating_webhook_configuration(VALIDATOR).webhooks
    assert (validator.failure_policy, validator.client_config.service.name) == ("Ignore", "istiod-old")
    serve(admission)
    program.configure(releases=release(namespace, "new"))
    before = {one.metadata.uid for one in objects(kube_api, admission, namespace)}
    assert program.up().steps == {"default": "update"}
    after = objects(kube_api, admission, namespace)
    assert {one.metadata.uid for one in after} == before
    assert [one.metadata.labels["istio.io/rev"] for one in after] == ["new"] * 3
    tag, validator, service = after
    for webhook in (*tag.webhooks, *validator.webhooks):
        assert webhook.client_config.ca_bundle == BUNDLE
        assert webhook.client_config.service.name == "istiod-new"
        assert webhook.failure_policy == "Fail"
    assert service.spec.selector == {"app": "istiod", "istio.io/rev": "new"}
    assert program.up().steps == {}
    assert not program.destroy().failed
    assert not kube_api.exists(admission.read_mutating_webhook_configuration, TAG)
    assert not kube_api.exists(admission.read_validating_webhook_configuration, VALIDATOR)


def objects(kube_api: KubeApi, admission: Any, namespace: str) -> list[Any]:
    return [
        admission.read_mutating_webhook_configuration(TAG),
        admission.read_validating_webhook_configuration(VALIDATOR),
        kube_api.core.read_namespaced_service("istiod-revision-tag-default", namespace),
    ]


def serve(admission: Any) -> None:
    """Write what an istiod writes once it is reached: its bundle, and that its verdict is needed (Istio's pkg/webhooks)."""
    tag = admission.read_mutating_webhook_configuration(TAG)
    validator = admission.read_validating_webhook_configuration(VALIDATOR)
    for webhook in (*tag.webhooks, *validator.webhooks):
        webhook.client_config.ca_bundle = BUNDLE
        webhook.failure_policy = "Fail"
    admission.replace_mutating_webhook_configuration(TAG, tag)
    admission.replace_validating_webhook_configuration(VALIDATOR, validator)
