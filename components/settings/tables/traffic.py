"""Traffic: how the calls of a Service are divided between versions."""

from typing import Annotated

from pydantic import Field

from components.settings.tables.base import Table, WhenUnset
from components.settings.tables.workloads import ServicePort
from components.settings.values import DnsLabel, matching


class RetrySettings(Table):
    """What a caller's sidecar does about a failed call."""

    attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        default=2, description="how often a failed call is tried again"
    )
    per_try_seconds: Annotated[int, Field(ge=1, le=300)] = Field(default=2, description="how long each try may take")


class OutlierSettings(Table):
    """When an endpoint is left out for a while: after so many server errors in a row."""

    consecutive_errors: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="server errors in a row after which an endpoint is left out at once"
    )
    interval_seconds: Annotated[int, Field(ge=1, le=300)] = Field(
        default=1, description="time between looks at whether it may return"
    )
    ejection_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=10, description="how long it is left out, times the number of its ejections so far"
    )


class RouteSettings(Table):
    """Where requests go: to each version its share in percent."""

    headers: Annotated[
        dict[
            Annotated[str, matching(r"[a-z0-9-]+", "should be a header's name in lower case")],
            Annotated[str, matching(r"[ -~]+", "should be printable ASCII")],
        ],
        WhenUnset("every request"),
    ] = Field(default={}, description="headers that a request must have, all of them, by their names in lower case")
    shares: Annotated[dict[DnsLabel, Annotated[int, Field(ge=0, le=100)]], Field(min_length=1)] = Field(
        description="share of each version in percent: `{v1: 90, v2: 10}`"
    )


class TrafficSettings(Table):
    """A Service whose calls are divided between versions, on pods and VMs alike."""

    service: DnsLabel = Field(
        description="a Service of the stack (the `app` of a workload, or helloworld), or with `app` and `port` the "
        "name of one to make"
    )
    namespace: DnsLabel = Field(description="namespace of the Service")
    app: DnsLabel | None = Field(
        default=None,
        description="label `app` of the pods and VMs that the new Service has; set `port` with it, or neither",
    )
    port: ServicePort | None = Field(default=None, description="port of the new Service")
    versions: Annotated[tuple[DnsLabel, ...], Field(min_length=1)] = Field(
        description="values of the label `version` to tell apart"
    )
    routes: tuple[RouteSettings, ...] = Field(
        default=(),
        description="where requests go: the first route that matches counts. The last one has no `headers`, and takes "
        "the rest. Without routes every call goes to any endpoint",
    )
    retries: RetrySettings | None = Field(
        default=None, description="what callers do about a failed call, on every route"
    )
    outliers: dict[DnsLabel, OutlierSettings] = Field(
        default={},
        description="when an endpoint is left out for a while, by version; only versions that a route sends to",
    )
