"""`make status` and the end of `make up` on a lab that is broken by hand, one server and one VM. Needs root and Linux.

The tests run in this order on one stack.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from actions.kube import ApiCluster
from tests.trial import ROOT, Run, Trial, trial
from verify.draining import DRAIN

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]

CIDRS = {"cluster": "10.108.0.0/24", "vm": "10.108.1.0/24"}
GATEWAYS = ("istio-eastwestgateway", "istio-ingressgateway")
SERVICELB = "svccontroller.k3s.cattle.io/enablelb"
SERVICE = "/api/v1/namespaces/vmns/services/external-app"
ROOTS = "/etc/certs/root-cert.pem"
DENY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: vmns}
spec: {action: DENY, rules: [{}]}
"""


class Lab:
    """The stack, and what is done to it by hand."""

    def __init__(self, made: Trial) -> None:
        self.trial = made

    @cached_property
    def cluster(self) -> ApiCluster:
        return ApiCluster(Path(self.trial.make("kubeconfig").check().text.splitlines()[-1]).read_text())

    @property
    def sizes(self) -> dict[str, Any]:
        """What the driver has to know of a small machine."""
        image = self.trial.settings["istio-vms:machines"]["image"]
        sizes = {"cpus": 1, "memory_mib": 256, "disk_gib": 1, "image": image, "user": "ubuntu", "mounts": []}
        return {**sizes, "user_data": "#cloud-config\n{}\n"}

    def kubectl(self, words: str) -> None:
        self.trial.ssh("server-1", f"sudo kubectl {words}").check()

    def on_vm(self, command: str) -> None:
        self.trial.ssh("vm-1", command).check()

    def status(self) -> tuple[int, set[tuple[str, str]]]:
        """The exit code, and what was found: kinds and subjects; each says what to do."""
        ran = self.trial.make("status", ARGS="--json")
        document, _ = json.JSONDecoder().raw_decode(ran.text[ran.text.index("{\n") :])
        assert document["healthy"] == (not document["findings"])
        assert all(one["problem"] and one["what_to_do"] for one in document["findings"])
        return ran.code, {(one["id"], one["subject"]) for one in document["findings"]}

    def machine(self, verb: str, **document: Any) -> None:
        """Have the driver do something to a machine of our owner behind Pulumi's back."""
        request = {"driver": "nspawn", "owner": self.trial.owner, "options": {}, **document}
        command = [sys.executable, "-m", "actions", f"machines.{verb}"]
        subprocess.run(
            command, cwd=ROOT, input=json.dumps(request), text=True, check=True, stdout=subprocess.DEVNULL, timeout=120
        )

    def until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while not there():
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def addresses(self) -> list[str]:
        """Of both gateways."""
        services = self.cluster.items("/api/v1/namespaces/istio-system/services")
        lists = [one["status"]["loadBalancer"].get("ingress", []) for one in services]
        return [entry["ip"] for entries in lists for entry in entries]

    def pods(self, app: str) -> set[str]:
        """The names of the pods that are not going."""
        pods = self.cluster.items("/api/v1/namespaces/sample/pods", f"app={app}")
        return {one["metadata"]["name"] for one in pods if "deletionTimestamp" not in one["metadata"]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Generator[Lab]:
    """The stack, up."""
    with trial(tmp_path_factory.mktemp("status"), "status", CIDRS) as made:
        settings = made.settings
        settings["istio-vms:cluster"]["agents"] = {"count": 0}
        settings["istio-vms:workloads"] = settings["istio-vms:workloads"][:1]
        del settings["istio-vms:workloads"][0]["vms"][1:]
        settings["istio-vms:policies"] = {"mtls": "STRICT"}
        settings["istio-vms:traffic"] = []
        made.write_settings()
        made.make("up").check()
        yield Lab(made)


def another_root() -> str:
    """A root certificate that is not the mesh's."""
    key, subject = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other")]),
    )
    begin = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, begin, begin + timedelta(days=9))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def proved(said: Run) -> list[str]:
    """The evidence that an `up` has printed."""
    return re.findall(r"200, mutual TLS as \S+", said.text)


def test_where_all_is_well_nothing_is_found(lab: Lab) -> None:
    assert lab.status() == (0, set())


def test_every_up_calls_anew(lab: Lab) -> None:
    begun = datetime.now(UTC).astimezone()
    said = lab.trial.make("up").check()
    assert re.search(r"Resources:\n +\d+ unchanged\n", said.text), said.text
    (at,) = re.findall(r"proved at (\d\d:\d\d:\d\d):", said.text)
    assert at >= f"{begun:%H:%M:%S}" or begun.hour == 23
    assert len(proved(said)) == 2


def test_calls_that_are_refused_are_told_instead_of_those_of_before(lab: Lab) -> None:
    lab.kubectl(f"apply -f - <<'EOF'\n{DENY}EOF")
    try:
        assert lab.status() == (0, set()), "it is nobody's business what else is in the namespace"
        # Connections that were there before are served as before.
        time.sleep(DRAIN.total_seconds())
        said = lab.trial.make("up")
    finally:
        lab.kubectl("-n vmns delete authorizationpolicy nobody")
    assert said.code != 0
    assert re.search(r"call pod → status-vm-1 failed: 403: .*\n +→ ", said.text), said.text
    assert proved(said) == [] and "proved at" not in said.text


def test_gateways_without_an_address_are_seen_at_once(lab: Lab) -> None:
    lab.kubectl(f"label node status-server-1 {SERVICELB}=false")
    try:
        lab.until(lambda: not lab.addresses())
        code, found = lab.status()
    finally:
        # As the finding says: k3s does not look again when the label is taken away.
        lab.kubectl(f"label --overwrite nodes --all {SERVICELB}=true")
    assert code != 0
    homeless = {("gateway-without-address", f"gateway {name}") for name in GATEWAYS}
    # Whoever comes through them may have lost its connection by then.
    assert homeless <= found <= {*homeless, ("member-not-connected", "VM status-vm-1")}
    lab.until(lambda: len(lab.addresses()) == len(GATEWAYS))


def test_everything_that_is_broken_is_found_and_nothing_else(lab: Lab) -> None:
    lab.cluster.delete(SERVICE)
    lab.kubectl("label namespace sample istio.io/rev-")
    before = lab.pods("stranger")
    lab.kubectl(f"-n sample delete pod {' '.join(before)} --wait=false")
    lab.on_vm(f"sudo systemctl stop istio; sudo cp {ROOTS} /tmp/roots; echo '{another_root()}' | sudo tee {ROOTS}")
    lab.machine("ensure", name="status-extra", network={"name": "vm", "cidr": CIDRS["vm"]}, **lab.sizes)
    lab.until(lambda: len(lab.pods("stranger")) == 1 and not lab.pods("stranger") & before)
    (pod,) = lab.pods("stranger")
    expected = {
        ("machine-of-nobody", "machine status-extra"),
        ("object-gone", "Service vmns/external-app"),
        ("object-changed", "Namespace sample"),
        ("pod-without-sidecar", f"pod sample/{pod}"),
        ("member-root", "VM status-vm-1"),
        ("member-not-connected", "VM status-vm-1"),
    }
    code, found = lab.status()
    lab.on_vm(f"sudo cp /tmp/roots {ROOTS}")
    assert found == expected
    assert code != 0


def test_up_puts_right_what_it_can_and_agrees_with_status_on_the_rest(lab: Lab) -> None:
    said = lab.trial.make("up")
    assert "heal: status-vm-1 joins the mesh again" in said.text
    code, found = lab.status()
    assert "VM status-vm-1" not in {subject for _, subject in found}
    assert (said.code != 0) == (code != 0) == bool(found)
    assert all(subject in said.text for _, subject in found)
