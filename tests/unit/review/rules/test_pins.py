"""Policy pinned-versions: charts, images, k3s, downloads."""

from typing import Any

import pytest

from actions.artifacts import MachineArtifact, fetch_script
from review.model import Resource
from review.values import MASKED, UNKNOWN_STRING
from tests.unit.review.rules.conftest import command, deployment, release, said

DIGEST = "a" * 64
REPOSITORY = {"repo": "https://charts.example"}


def pins(about: Resource) -> list[str]:
    return said("pinned-versions", about)


@pytest.mark.parametrize("version", [None, "", "latest", "^1.30.0", "1.30", "1.x", "~1.30.3", ">=1.30.3"])
def test_a_chart_of_a_repository_has_one_exact_version(version: str | None) -> None:
    named = {} if version is None else {"version": version}
    for chart in ({"chart": "istiod", "repositoryOpts": REPOSITORY}, {"chart": "oci://registry.example/charts/istiod"}):
        assert len(pins(release(**chart, **named))) == 1


@pytest.mark.parametrize(
    "inputs",
    [
        {"chart": "istiod", "repositoryOpts": REPOSITORY, "version": "1.30.3"},
        {"chart": "istiod", "repositoryOpts": REPOSITORY, "version": "v1.30.3-rc.1+build.5"},
        {"chart": "istiod", "repositoryOpts": REPOSITORY, "version": UNKNOWN_STRING},
        {"chart": "/charts/istiod"},
        {"chart": "./charts/istiod"},
    ],
)
def test_exact_versions_and_charts_in_folders_are_right(inputs: dict[str, Any]) -> None:
    assert pins(release(**inputs)) == []


@pytest.mark.parametrize(
    "image", ["nginx", "nginx:latest", "registry.example:5000/nginx", "registry.example/a/nginx:main"]
)
def test_an_image_has_a_tag_that_stays(image: str) -> None:
    (message,) = pins(deployment({"name": "a", "image": image}))
    assert message.startswith(f"spec.template.spec.containers.0.image is {image}")
    assert len(pins(release(chart="/c", values={"sidecar": {"image": image}}))) == 1


@pytest.mark.parametrize(
    "image", ["nginx:1.29", "registry.example:5000/nginx:1.29", f"nginx@sha256:{DIGEST}", "auto", UNKNOWN_STRING, ""]
)
def test_images_with_a_tag_or_a_digest_are_right(image: str) -> None:
    assert pins(deployment({"name": "a", "image": image})) == []


def test_a_charts_tag_does_not_float() -> None:
    assert pins(release(chart="/c", values={"global": {"tag": "latest"}})) == [
        "values.global.tag is latest: name one version"
    ]
    assert pins(release(chart="/c", values={"global": {"tag": "1.30.3"}})) == []


@pytest.mark.parametrize(
    "script",
    [
        "curl -fsSL https://example.com/install.sh | sh",
        "wget -qO- https://example.com/install.sh | sudo bash -s -- --yes",
        "curl -s https://example.com/i | sudo FOO=bar sh -",
        'sh -c "$(curl -fsSL https://example.com/install.sh)"',
        "bash <(curl -s https://example.com/install.sh)",
    ],
)
def test_no_script_runs_as_it_is_downloaded(script: str) -> None:
    messages = pins(command(create=f"sha256sum --check sums\n{script}"))
    assert messages == ["create runs a script as it is downloaded: fetch it, verify its digest, then run it"]


@pytest.mark.parametrize("place", ["create", "update", "delete", "stdin"])
def test_no_download_goes_unverified(place: str) -> None:
    script = "curl --location --output /usr/local/bin/tool https://example.com/tool-1.2.3"
    (message,) = pins(command(**{place: script}))
    assert message.startswith(f"{place} downloads https://example.com/tool-1.2.3 and never verifies it")
    assert pins(command(**{place: f"{script}\necho '{DIGEST}  /usr/local/bin/tool' | sha256sum --check"})) == []


def test_a_machines_user_data_is_looked_into() -> None:
    document = '{"name": "vm", "user_data": "#cloud-config\\nruncmd:\\n- curl -O https://example.com/a.deb\\n"}'
    assert pins(command(stdin=document))[0].startswith("stdin.user_data downloads https://example.com/a.deb")


@pytest.mark.parametrize(
    "script",
    ["curl -fsS http://127.0.0.1:10248/healthz", "curl http://helloworld.sample.svc:5000/hello", "curl localhost:80"],
)
def test_asking_the_machine_or_the_mesh_is_no_download(script: str) -> None:
    assert pins(command(create=script)) == []


def test_k3s_is_of_one_release() -> None:
    script = "curl -o install.sh https://get.k3s.io; sha256sum --check sums; INSTALL_K3S_VERSION={} sh install.sh"
    assert "INSTALL_K3S_VERSION" in pins(command(stdin="curl -o i https://get.k3s.io; sha256sum --check sums; sh i"))[0]
    assert pins(command(stdin=script.format("v1.32.0+k3s1"))) == []
    assert len(pins(command(stdin=script.format("")))) == 1


def test_a_url_names_a_version() -> None:
    script = "curl -O https://example.com/releases/latest/tool; sha256sum --check sums"
    assert pins(command(create=script)) == [
        "create fetches https://example.com/releases/latest/tool, another file with every release: name a version in place of latest"
    ]


def test_artifacts_are_verified_as_our_own_script_does_it() -> None:
    artifact = MachineArtifact(url="https://example.com/k3s", sha256=DIGEST, arm64=MachineArtifact(path="/opt/k3s"))
    script = fetch_script(artifact, "/usr/local/bin/k3s")
    assert pins(command(stdin=script)) == []
    (message,) = pins(command(stdin=script.replace(DIGEST, "''")))
    assert (
        message
        == "stdin fetches https://example.com/k3s without a digest: give its sha256, or the URL of its publisher's checksums"
    )


def test_what_is_not_shown_is_not_judged() -> None:
    assert pins(command(stdin=MASKED, create=UNKNOWN_STRING)) == []
