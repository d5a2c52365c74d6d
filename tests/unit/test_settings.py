"""Settings: what is right parses, and whatever is wrong is named, all at once, with its path."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from components import settings
from components.settings import SettingsError

ROOT = Path(__file__).parents[2]
STACKS = sorted(path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml"))


def stack_file(name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / f"Pulumi.{name}.yaml").read_text())
    return {key.removeprefix("istio-vms:"): value for key, value in document["config"].items()}


def parse(tables: dict[str, Any], stack: str = "lab", secret: set[str] | None = None) -> settings.Settings:
    return settings.parse(stack, {key: json.dumps(value) for key, value in tables.items()}, secret)


def problems(tables: dict[str, Any], **kwargs: Any) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        parse(tables, **kwargs)
    return {problem.path.removeprefix("istio-vms:"): problem.message for problem in caught.value.problems}


def put(tables: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at a path such as `workloads.0.name`."""
    result = copy.deepcopy(tables)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = result
    for step in steps:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[last] = value
    return result


def without_samples(tables: dict[str, Any]) -> dict[str, Any]:
    """A copy without samples and without what refers to them."""
    result = copy.deepcopy(tables)
    for table in ("samples", "policies", "telemetry", "traffic"):
        del result[table]
    del result["mesh"]["exposedServices"]
    return result


LAB = stack_file("lab")
DEV = stack_file("dev")
HTTP = {"name": "http", "port": 8000}


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_file_of_the_repository_is_valid(stack: str) -> None:
    assert parse(stack_file(stack), stack).stack == stack


def test_defaults_are_the_documented_ones() -> None:
    parsed = parse(LAB)
    assert parsed.mesh.east_west_ports.model_dump() == {
        "status": 15022,
        "services": 15443,
        "istiod": 15013,
        "webhook": 15018,
    }
    assert parsed.workloads[0].token_seconds == 3600
    assert parsed.workloads[0].certificate_seconds == 86400
    assert parsed.samples.client_image.startswith("docker.io/curlimages/curl:")


def test_tables_that_are_left_out_ask_for_nothing_but_mutual_tls() -> None:
    parsed = parse(without_samples(LAB))
    assert parsed.policies.mtls is settings.MtlsMode.STRICT
    assert (parsed.policies.authorization, parsed.policies.egress_guards) == ((), ())
    assert (parsed.telemetry.access_logs, parsed.traffic) == ("off", ())
    assert (parsed.mesh.namespaces, parsed.mesh.exposed_services) == ((), ())
    assert not parsed.samples.enabled


@pytest.mark.parametrize(
    ("path", "value", "at", "says"),
    [
        ("machines.driver", "vmware", "machines.driver", "nspawn"),
        ("machines.colour", "red", "machines.colour", "unknown setting"),
        ("machines.image", "", "machines.image", "what to boot"),
        ("cluster.agents.image", " ", "cluster.agents.image", "is empty"),
        ("machines.multipass", {"snapshots": -1}, "machines.multipass.snapshots", "greater than or equal to 0"),
        ("machines.user", "Root User", "machines.user", "Linux user name"),
        ("machines.networks.0.cidr", "10.89.0.0/33", "machines.networks[0].cidr", "IPv4 network"),
        ("machines.networks.0.cidr", "10.89.0.1/24", "machines.networks[0].cidr", "host bits"),
        ("machines.networks.0.cidr", "10.89.0.0/30", "machines.networks[0].cidr", "/28"),
        ("machines.networks.0.cidr", None, "machines.networks[0].cidr", "nspawn makes this network"),
        ("machines.networks.1.cidr", "10.89.0.128/25", "machines.networks[1].cidr", "overlaps"),
        ("machines.networks.1.name", "cluster", "machines.networks[1].name", "already used"),
        ("machines.mounts.0.source", "relative/path", "machines.mounts[0].source", "absolute"),
        ("machines.mounts.0.target", "opt", "machines.mounts[0].target", "absolute path"),
        ("cluster.podCidr", "10.43.1.0/24", "cluster.serviceCidr", "overlaps"),
        ("cluster.version", "latest", "cluster.version", "v1.36.5+k3s1"),
        ("cluster.version", "v1.20.4+k3s1", "cluster.version", "from v1.28"),
        ("cluster.network", "nowhere", "cluster.network", "no such network"),
        ("cluster.servers.count", 2, "cluster.servers.count", "odd"),
        ("cluster.servers.count", "three", "cluster.servers.count", "integer"),
        ("cluster.servers.cpus", 0, "cluster.servers.cpus", "greater than or equal to 1"),
        ("cluster.agents.memory", "100Mi", "cluster.agents.memory", "at least 512Mi"),
        ("cluster.agents.memory", "2G", "cluster.agents.memory", "such as 2Gi"),
        ("cluster.agents.disk", "1Gi", "cluster.agents.disk", "at least 5120Mi"),
        (
            "cluster.agents.hosts",
            [{"host": "h", "hostKey": "ssh-ed25519 AAAA"}],
            "cluster.agents.hosts",
            "driver existing",
        ),
        ("cluster.config", {"token": "x"}, "cluster.config.token", "set by the program"),
        ("cluster.binary", {}, "cluster.binary", "either url or path"),
        ("cluster.binary", {"url": "https://example.org/k3s"}, "cluster.binary", "verified"),
        ("cluster.binary", {"url": "http://example.org/k3s"}, "cluster.binary.url", "https://"),
        ("cluster.binary", {"url": "https://e.org/k3s", "sha256": "abc"}, "cluster.binary.sha256", "64 hexadecimal"),
        ("cluster.binary", {"path": "/elsewhere/k3s"}, "cluster.binary.path", "machines.mounts"),
        ("mesh.version", "1.20.0", "mesh.version", "from 1.30"),
        ("mesh.revision", "1.30.3", "mesh.revision", "1-30-3"),
        ("mesh.charts", {}, "mesh.charts", "either repository or directory"),
        ("mesh.eastWestPorts", {"status": 15021}, "mesh.eastWestPorts.status", "taken by mesh.ingressPorts.status"),
        ("mesh.eastWestPorts", {"istiod": 6443}, "mesh.eastWestPorts.istiod", "Kubernetes API"),
        ("mesh.eastWestPorts", {"istiod": 15018}, "mesh.eastWestPorts.webhook", "already taken"),
        ("mesh.eastWestPorts", {"istiod": 70000}, "mesh.eastWestPorts.istiod", "65535"),
        ("mesh.eastWestPorts", {"istoid": 15013}, "mesh.eastWestPorts.istoid", "unknown setting"),
        ("workloads.0.name", "External_App", "workloads[0].name", "DNS label"),
        ("workloads.0.tokenSeconds", 60, "workloads[0].tokenSeconds", "600"),
        ("workloads.0.certificateSeconds", 29, "workloads[0].certificateSeconds", "30"),
        ("workloads.0.ports.0.name", "web", "workloads[0].ports[0].name", "protocol"),
        ("workloads.0.ports", [HTTP, {**HTTP, "port": 8001}], "workloads[0].ports[1].name", "already used"),
        ("workloads.0.ports", [HTTP, {**HTTP, "name": "http-2"}], "workloads[0].ports[1].port", "already used"),
        ("workloads.1", LAB["workloads"][0], "workloads[1].name", "already used"),
        ("workloads.0.probe.port", 9999, "workloads[0].probe.port", "listens on the workload's ports"),
        ("workloads.0.application", "mine", "workloads[0].application", "sample"),
        ("workloads.0.vms.0.network", "nowhere", "workloads[0].vms[0].network", "no such network"),
        ("workloads.0.vms.1.name", "vm-1", "workloads[0].vms[1].name", "already used"),
        ("workloads.0.vms.1.name", "server-1", "workloads[0].vms[1].name", "the cluster's own machines"),
        ("samples.enabled", "yes", "samples.enabled", "boolean"),
        ("mesh.exposedServices", ["helloworld"], "mesh.exposedServices[0]", "such as sample/helloworld"),
        ("policies.mtls", "strict", "policies.mtls", "STRICT"),
        ("policies.authorization.0.allow", [], "policies.authorization[0].allow", "at least 1"),
        ("policies.authorization.0.allow", ["curl"], "policies.authorization[0].allow[0]", "with / between"),
        ("telemetry.accessLogs", "all", "telemetry.accessLogs", "mesh"),
        ("traffic.0.versions", [], "traffic[0].versions", "at least 1"),
        (
            "traffic.0.routes.0.headers",
            {"X-Version": "vm"},
            "traffic[0].routes[0].headers.X-Version.[key]",
            "lower case",
        ),
        ("traffic.0.routes.1.shares", {}, "traffic[0].routes[1].shares", "at least 1"),
        ("traffic.0.routes.1.shares", {"v1": 101}, "traffic[0].routes[1].shares.v1", "100"),
        ("traffic.1.retries.attempts", 0, "traffic[1].retries.attempts", "greater than or equal to 1"),
        ("traffic.1.outliers.vm.intervalSeconds", 0, "traffic[1].outliers.vm.intervalSeconds", "equal to 1"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(path: str, value: Any, at: str, says: str) -> None:
    found = problems(put(LAB, path, value))
    assert at in found, found
    assert says in found[at]


def test_every_error_is_reported_at_once() -> None:
    tables = put(put(put(LAB, "machines.driver", "vmware"), "cluster.version", "latest"), "workloads.0.name", "A")
    tables["extra"] = 1
    assert {"machines.driver", "cluster.version", "workloads[0].name", "extra"} <= set(problems(tables))


def test_errors_across_tables_show_beside_wrong_values() -> None:
    tables = put(put(LAB, "mesh.revision", "A.B"), "workloads.0.vms.1.name", "vm-1")
    assert {"mesh.revision", "workloads[0].vms[1].name"} <= set(problems(tables))


def test_a_missing_table_is_an_error() -> None:
    tables = {key: value for key, value in LAB.items() if key != "mesh"}
    assert "missing" in problems(tables)["mesh"]


def test_the_value_is_shown_unless_it_is_secret() -> None:
    wrong = put(LAB, "mesh.revision", "A.B")
    assert "A.B" in problems(wrong)["mesh.revision"]
    assert "A.B" not in problems(wrong, secret={"mesh"})["mesh.revision"]


def test_machine_names_stay_within_a_host_name() -> None:
    tables = put(LAB, "workloads.0.vms.0.name", "v" * 40)
    assert "longer" in problems(tables, stack="a" * 20)["workloads[0].vms[0].name"]
    assert "short DNS label" in problems(LAB, stack="Lab_1")["stack"]


def test_machines_may_have_images_of_their_own_and_then_need_no_common_one() -> None:
    tables = put(put(DEV, "cluster.agents.image", "22.04"), "workloads.0.vms.0.image", "noble")
    parsed = parse(tables, "dev")
    assert (parsed.cluster.servers.image, parsed.cluster.agents.image) == (None, "22.04")
    assert parsed.workloads[0].vms[0].image == "noble"
    every = put(put(tables, "machines.image", ""), "cluster.servers.image", "24.04")
    assert "what to boot" in problems(every, stack="dev")["machines.image"]
    for i, workload in enumerate(every["workloads"]):
        for j in range(len(workload["vms"])):
            every = put(every, f"workloads.{i}.vms.{j}.image", "24.04")
    assert parse(every, "dev").machines.image == ""


def test_existing_hosts_boot_no_image() -> None:
    tables = put(put(DEV, "machines.driver", "existing"), "workloads.0.vms.0.image", "noble")
    assert "boots nothing" in problems(tables)["workloads[0].vms[0].image"]


def test_existing_hosts_name_host_and_key() -> None:
    tables = put(DEV, "machines", {"driver": "existing", "mounts": [{"source": "/srv", "target": "/opt"}]})
    found = problems(tables, stack="dev")
    assert "needs the key" in found["machines.privateKeyFile"]
    assert "give artifacts by url" in found["machines.mounts"]
    assert "names its host" in found["cluster.servers.hosts"]
    assert "names its host" in found["workloads[0].vms[0].existing"]
    assert "should be none" in found["workloads[0].application"]


def test_multipass_makes_no_networks_of_its_own() -> None:
    tables = put(DEV, "machines.networks", [{"name": "default", "cidr": "10.0.0.0/24"}])
    assert "does not make networks" in problems(tables, stack="dev")["machines.networks[0].cidr"]


def test_missing_files_are_found(tmp_path: Path) -> None:
    tables = put(LAB, "machines.mounts", [{"source": str(tmp_path), "target": "/opt/istio-vms"}])
    for place in ("cluster.binary", "cluster.tools", "mesh.sidecarPackage"):
        tables = put(tables, place, {"path": str(tmp_path / "there")})
    tables["cluster"]["images"] = []
    tables["machines"]["image"] = str(tmp_path)
    tables["mesh"]["charts"] = {"directory": str(tmp_path)}
    for chart in ("base", "istiod", "gateway"):
        (tmp_path / chart).mkdir()
    parsed = parse(tables)
    assert {problem.path.removeprefix("istio-vms:") for problem in settings.missing_files(parsed)} == {
        "cluster.binary.path",
        "cluster.tools.path",
        "mesh.sidecarPackage.path",
    }
    (tmp_path / "there").write_text("")
    assert settings.missing_files(parse(tables)) == []


def test_a_path_is_translated_to_the_machine() -> None:
    parsed = parse(LAB)
    source = parsed.machines.mounts[0].source
    assert settings.machine_path(parsed.machines, f"{source}/k3s/k3s") == "/opt/istio-vms/k3s/k3s"
    assert settings.machine_path(parsed.machines, "/elsewhere") is None


def test_any_number_of_nodes_and_vms() -> None:
    tables = put(put(LAB, "cluster.servers.count", 3), "cluster.agents.count", 4)
    tables["workloads"][0]["vms"] += [{"name": f"more-{i}", "network": "vm"} for i in range(5)]
    parsed = parse(tables)
    assert [name for name, *_ in settings.node_names(parsed.cluster)] == [
        *(f"server-{i}" for i in (1, 2, 3)),
        *(f"agent-{i}" for i in (1, 2, 3, 4)),
    ]
    assert len(parsed.workloads[0].vms) == 8


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for field in model.model_fields.values():
        yield str(field.alias)
        for nested in _models(field.annotation):
            yield from _fields(nested)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not settings.Artifact:
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


MODELS = {
    "machines": settings.MachinesSettings,
    "cluster": settings.ClusterSettings,
    "mesh": settings.MeshSettings,
    "workloads": settings.WorkloadSettings,
    "samples": settings.SampleSettings,
    "policies": settings.PolicySettings,
    "telemetry": settings.TelemetrySettings,
    "traffic": settings.TrafficSettings,
    "protection": settings.ProtectionSettings,
}
PULUMI_YAML: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]


def test_every_table_is_known_to_pulumi_and_documented() -> None:
    assert list(PULUMI_YAML) == list(MODELS)
    sections = re.findall(r"^## istio-vms:(\w+)", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert sections == list(MODELS)
    extra = problems({**LAB, "extra": 1})["extra"]
    assert extra == f"unknown; known are {', '.join(MODELS)}"


def test_a_table_may_be_left_out_for_pulumi_and_for_us_alike() -> None:
    """Pulumi itself refuses a stack without a key that has no default."""
    needed = ["machines", "cluster", "mesh"]
    assert [key for key, value in PULUMI_YAML.items() if "default" not in value] == needed
    parse({key: LAB[key] for key in needed} | {"mesh": put(LAB, "mesh.exposedServices", [])["mesh"]})
    assert list(problems({})) == needed


@pytest.mark.parametrize("table", MODELS)
def test_every_setting_is_documented_with_its_table(table: str) -> None:
    sections = re.split(r"^## ", (ROOT / "docs/settings.md").read_text(), flags=re.MULTILINE)
    [section] = [text for text in sections if text.startswith(f"istio-vms:{table}\n")]
    for text in (section, PULUMI_YAML[table]["description"]):
        assert [name for name in _fields(MODELS[table]) if not re.search(rf"\b{name}\b", text)] == []


def test_every_setting_of_an_artifact_is_documented() -> None:
    _, section = (ROOT / "docs/settings.md").read_text().split("## Artifacts\n")
    assert [name for name in _fields(settings.Artifact) if not re.search(rf"\b{name}\b", section)] == []


def test_no_value_of_a_secret_table_is_shown_by_any_check() -> None:
    wrong = put(put(LAB, "mesh.eastWestPorts", {"status": 15021}), "workloads.0.network", "cluster-network")
    wrong = put(put(wrong, "workloads.1.vms.0.name", "vm-1"), "workloads.0.name", "hidden-name")
    shown = " ".join(problems(wrong).values())
    assert "15021" in shown and "hidden-name" in shown and "'vm-1'" in shown
    hidden = " ".join(problems(wrong, secret={"mesh", "workloads"}).values())
    assert not any(value in hidden for value in ("15021", "hidden-name", "vm-1'"))
    assert "is already taken by mesh.ingressPorts.status" in hidden, "what is wrong is still told"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("mesh.revision", "A.B"), ("policies.authorization.0.namespace", "nowhere")),
        (("mesh.version", None), ("mesh.eastWestPorts", {"status": 15021})),
        (("mesh.sidecarPackage", 3), ("traffic.0.versions", ["v1", "vm", "v9"])),
        (("cluster.version", "latest"), ("cluster.servers.count", 2)),
        (("cluster.binary", []), ("workloads.1.vms.0.network", "vm")),
        (("machines.user", "Root User"), ("workloads.0.vms.0.network", "nowhere")),
        (("machines.mounts", [None]), ("workloads.0.vms.1.name", "vm-1")),
        (("workloads.0.name", "A B"), ("workloads.1.probe.port", 9999)),
        (("workloads.0.vms", None), ("workloads.1.vms.0.name", "server-1")),
        (("traffic.0.versions", []), ("policies.authorization.1.app", "nothing")),
    ],
)
def test_what_is_wrong_with_a_value_hides_nothing_that_is_wrong_elsewhere(
    first: tuple[str, Any], second: tuple[str, Any]
) -> None:
    alone = problems(put(LAB, *second))
    both = problems(put(put(LAB, *first), *second))
    assert alone.items() <= both.items()
    of_first = problems(put(LAB, *first))
    assert both.keys() == alone.keys() | of_first.keys(), "nothing is made up"


@pytest.mark.parametrize(
    "path", ["mesh.eastWestPorts", "cluster.servers", "machines.networks", "workloads.0", "traffic.0"]
)
def test_a_wrong_value_is_one_error(path: str) -> None:
    assert list(problems(put(LAB, path, 3))) == [re.sub(r"\.(\d+)", r"[\1]", path)]


def test_files_that_are_not_there_are_told_with_everything_else() -> None:
    wrong = put(put(LAB, "machines.mounts.0.source", "/nowhere"), "mesh.revision", "A.B")
    for place in ("cluster.binary", "cluster.tools", "mesh.sidecarPackage"):
        wrong = put(wrong, place, {"path": "/nowhere/x"})
    wrong["cluster"]["images"] = []
    raw = {key: json.dumps(value) for key, value in wrong.items()}
    found = {problem.path.removeprefix("istio-vms:") for problem in settings.find_problems("lab", raw, files=True)}
    assert {"mesh.revision", "machines.mounts[0].source", "cluster.binary.path"} <= found


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("istio-vm:machines", "begin with istio-vms:"),
        ("aws:region", "unknown"),
        ("istio-vms:", "unknown"),
        ("mesh", "twice"),
    ],
)
def test_a_key_that_is_nobodys_is_told(key: str, says: str) -> None:
    known = ["istio-vms:mesh", "pulumi:tags", "kubernetes:namespace", "command:x", "samples"]
    assert list(settings.key_problems(known)) == []
    [problem] = settings.key_problems([*known, key])
    assert problem.path == f"config: {key}" and says in problem.message
