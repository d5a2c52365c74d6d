"""A workload is renamed, another one goes, the samples are switched off: what others need of them stays, and VMs are well."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from tests.e2e.conftest import Environment
from tests.trial import Trial, trial

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]

CIDRS = {"cluster": "10.101.0.0/24", "vm": "10.101.1.0/24"}
SHARED = (
    ("services", "vmns", "billing"),
    ("serviceaccounts", "vmns", "billing"),
    ("services", "sample", "helloworld"),
    ("serviceaccounts", "sample", "curl"),
)


def workload(name: str, namespace: str, app: str, account: str, *vms: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "app": app,
        "serviceAccount": account,
        "ports": [{"name": "http", "port": 5000}],
        "probe": {"port": 5000},
        "vms": [{"name": vm, "network": "cluster"} for vm in vms],
    }


SPARE = workload("spare", "vmns", "billing", "billing")
BILLING = workload("billing-vm", "vmns", "billing", "billing", "vm-1")
HELLO = workload("helloworld-vm", "sample", "helloworld", "curl")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Trial]:
    """One server, and one VM in the second of two workloads with one Service and one account; up."""
    with trial(tmp_path_factory.mktemp("names"), "names", CIDRS) as made:
        made.settings["istio-vms:cluster"]["agents"]["count"] = 0
        made.settings |= {f"istio-vms:{table}": {} for table in ("policies", "telemetry")} | {"istio-vms:traffic": []}
        change(made, [SPARE, BILLING, HELLO])
        made.make("up").check()
        yield made


def change(made: Trial, workloads: Sequence[dict[str, Any]], samples: bool = True) -> None:
    made.settings["istio-vms:workloads"] = list(workloads)
    made.settings["istio-vms:samples"]["enabled"] = samples
    made.write_settings()


def identities(made: Trial) -> list[str]:
    """Of what is shared: others after it was deleted and recreated."""
    env = Environment(made)
    paths = [f"/api/v1/namespaces/{namespace}/{kind}/{name}" for kind, namespace, name in SHARED]
    found = [env.get(path)["metadata"] for path in paths]
    assert not [metadata["name"] for metadata in found if "deletionTimestamp" in metadata]
    return [metadata["uid"] for metadata in found]


def nothing_changes(made: Trial) -> None:
    said = made.make("up").check().text
    assert re.search(r"Resources:\n +\d+ unchanged\n", said), said


def answers(made: Trial) -> None:
    """The VM is called by the name of its Service, and is who its account says."""
    seen = Environment(made).in_client_pod("curl", "-sS", "-m", "5", "http://billing.vmns.svc:5000/headers")
    assert seen.exit_code == 0, seen.stderr
    assert "spiffe://cluster.local/ns/vmns/sa/billing" in json.dumps(json.loads(seen.stdout))


def test_the_first_of_two_workloads_goes(stack: Trial) -> None:
    known = identities(stack)
    change(stack, [BILLING, HELLO])
    stack.make("up").check()
    assert identities(stack) == known
    answers(stack)


def test_a_workload_is_renamed_and_keeps_its_app_and_its_account(stack: Trial) -> None:
    known = identities(stack)
    change(stack, [BILLING | {"name": "invoices"}, HELLO])
    stack.make("up").check()
    assert identities(stack) == known
    entry = Environment(stack).entry("vm-1")
    assert entry["metadata"]["name"].startswith("invoices-")
    answers(stack)
    nothing_changes(stack)


def test_the_samples_go_and_come_under_a_service_and_an_account_of_a_workload(stack: Trial) -> None:
    known = identities(stack)
    for samples in (False, True):
        change(stack, [BILLING | {"name": "invoices"}, HELLO], samples)
        stack.make("up").check()
        assert identities(stack) == known
    answers(stack)
    nothing_changes(stack)
