"""How DestinationRules and VirtualServices divide the calls of a Service."""

from __future__ import annotations

from components.mesh.traffic import destination_rule, virtual_service
from components.settings import OutlierSettings, RetrySettings, RouteSettings
from tests.unit.test_components import Recorder, run_program
from tests.unit.test_settings import LAB, put

HOST = "helloworld.sample.svc.cluster.local"
OUTLIERS = OutlierSettings(consecutiveErrors=3, intervalSeconds=1, ejectionSeconds=10)
RETRIES = RetrySettings(attempts=3, perTrySeconds=2)
RETRIES_SPEC = {
    "attempts": 3,
    "perTryTimeout": "2s",
    "retryOn": "connect-failure,refused-stream,unavailable,cancelled,reset,5xx",
}


def test_each_version_is_a_subset_and_only_those_asked_for_have_outliers() -> None:
    assert destination_rule(HOST, ["v1", "vm"], {"vm": OUTLIERS}) == {
        "host": HOST,
        "subsets": [
            {"name": "v1", "labels": {"version": "v1"}},
            {
                "name": "vm",
                "labels": {"version": "vm"},
                "trafficPolicy": {
                    "outlierDetection": {
                        "consecutive5xxErrors": 3,
                        "interval": "1s",
                        "baseEjectionTime": "10s",
                        "maxEjectionPercent": 100,
                    }
                },
            },
        ],
    }


def test_requests_are_routed_by_header_then_by_share_and_each_route_is_retried() -> None:
    routes = [
        RouteSettings(headers={"x-version": "vm", "x-user": "me"}, shares={"vm": 100}),
        RouteSettings(shares={"v1": 90, "vm": 10}),
    ]
    assert virtual_service(HOST, routes, RETRIES) == {
        "hosts": [HOST],
        "http": [
            {
                "match": [{"headers": {"x-version": {"exact": "vm"}, "x-user": {"exact": "me"}}}],
                "route": [{"destination": {"host": HOST, "subset": "vm"}, "weight": 100}],
                "retries": RETRIES_SPEC,
            },
            {
                "route": [
                    {"destination": {"host": HOST, "subset": "v1"}, "weight": 90},
                    {"destination": {"host": HOST, "subset": "vm"}, "weight": 10},
                ],
                "retries": RETRIES_SPEC,
            },
        ],
    }


def test_without_routes_requests_go_anywhere_and_are_retried_all_the_same() -> None:
    anywhere = {"route": [{"destination": {"host": HOST}}]}
    assert virtual_service(HOST, [], RETRIES) == {"hosts": [HOST], "http": [anywhere | {"retries": RETRIES_SPEC}]}
    assert virtual_service(HOST, [], None) == {"hosts": [HOST], "http": [anywhere]}


def test_without_retries_istios_own_stay() -> None:
    route = RouteSettings(shares={"v1": 100})
    assert "retries" not in virtual_service(HOST, [route], None)["http"][0]


def test_a_service_is_made_over_everything_of_an_app(lab: Recorder) -> None:
    service = lab.made["service/sample/helloworld-shift"].inputs
    assert service["metadata"] == {
        "name": "helloworld-shift",
        "namespace": "sample",
        "labels": {"app": "helloworld"},
        "annotations": {"pulumi.com/skipAwait": "true"},
    }
    assert service["spec"] == {
        "selector": {"app": "helloworld"},
        "ports": [{"name": "http", "port": 5000, "targetPort": 5000}],
    }


def test_a_service_that_others_make_is_only_routed(lab: Recorder) -> None:
    made = {name.partition("/")[0] for name in lab.made if name.endswith("/vmns/external-app")}
    assert made >= {"traffic", "destinationrule", "virtualservice", "service"}
    assert lab.made["service/vmns/external-app"].inputs["spec"]["ports"] == [
        {"name": "http", "port": 8000, "targetPort": 8000}
    ]


def test_both_rules_are_about_the_full_name_of_the_service(lab: Recorder) -> None:
    for namespace, service in (("sample", "helloworld-shift"), ("vmns", "external-app")):
        rule = lab.made[f"destinationrule/{namespace}/{service}"].inputs
        routes = lab.made[f"virtualservice/{namespace}/{service}"].inputs
        host = f"{service}.{namespace}.svc.cluster.local"
        assert (rule["kind"], rule["apiVersion"]) == ("DestinationRule", "networking.istio.io/v1")
        assert (routes["kind"], routes["apiVersion"]) == ("VirtualService", "networking.istio.io/v1")
        assert rule["metadata"] == routes["metadata"] == {"name": service, "namespace": namespace}
        assert rule["spec"]["host"] == host
        assert routes["spec"]["hosts"] == [host]


def test_what_the_settings_say_of_a_service_reaches_its_rules() -> None:
    tables = put(LAB, "traffic.1.outliers.vm", {"consecutiveErrors": 4, "intervalSeconds": 5, "ejectionSeconds": 6})
    tables = put(tables, "traffic.1.retries", {"attempts": 7, "perTrySeconds": 8})
    made = run_program(tables).made
    host = "external-app.vmns.svc.cluster.local"
    outliers = OutlierSettings(consecutiveErrors=4, intervalSeconds=5, ejectionSeconds=6)
    routes = [RouteSettings(shares={"vm": 100})]
    assert made["destinationrule/vmns/external-app"].inputs["spec"] == destination_rule(host, ["vm"], {"vm": outliers})
    assert made["virtualservice/vmns/external-app"].inputs["spec"] == virtual_service(
        host, routes, RetrySettings(attempts=7, perTrySeconds=8)
    )
