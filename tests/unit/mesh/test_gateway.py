"""What the east-west gateway leads to: istiod always, services only where they are exposed."""

from __future__ import annotations

import pytest

from tests.unit.test_components import Recorder, run_program
from tests.unit.test_settings import LAB, put

GATEWAY = "istio-eastwestgateway"


def test_it_leads_to_the_exposed_services_and_no_others() -> None:
    tables = put(LAB, "mesh.exposedServices", ["vmns/external-app", "sample/helloworld"])
    services = run_program(put(tables, "mesh.eastWestPorts", {"services": 16443})).made[f"{GATEWAY}-services-gateway"]
    assert services.inputs["metadata"] == {"name": f"{GATEWAY}-services", "namespace": "istio-system"}
    assert services.inputs["spec"] == {
        "selector": {"istio": "eastwestgateway"},
        "servers": [
            {
                "port": {"number": 16443, "name": "tls", "protocol": "TLS"},
                "tls": {"mode": "AUTO_PASSTHROUGH"},
                "hosts": ["helloworld.sample.svc.cluster.local", "external-app.vmns.svc.cluster.local"],
            }
        ],
    }


def test_without_exposed_services_it_leads_to_istiod_alone() -> None:
    alone = {key: value for key, value in LAB.items() if key not in ("samples", "traffic", "policies")}
    made = run_program(put(alone, "mesh.exposedServices", [])).made
    kinds = {name: args.inputs["kind"] for name, args in made.items() if name.startswith(f"{GATEWAY}-istiod-")}
    assert kinds == {
        f"{GATEWAY}-istiod-gateway": "Gateway",
        f"{GATEWAY}-istiod-1-30-virtualservice": "VirtualService",
    }
    assert f"{GATEWAY}-services-gateway" not in made


@pytest.mark.parametrize("gateway", ["istiod", "services"])
def test_its_gateways_select_its_own_pods(lab: Recorder, gateway: str) -> None:
    selector = lab.made[f"{GATEWAY}-{gateway}-gateway"].inputs["spec"]["selector"]
    assert selector.items() <= lab.made[GATEWAY].inputs["values"]["labels"].items()
