"""A kubeconfig cut down to one context."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.cluster.kubeconfig import KubeconfigError, read


def whole(**user: Any) -> dict[str, Any]:
    names = ("staging", "production")
    return {
        "current-context": "production",
        "contexts": [{"name": n, "context": {"cluster": n, "user": n, "namespace": "team"}} for n in names],
        "clusters": [
            {"name": n, "cluster": {"server": f"https://{n}", "certificate-authority": "ca.pem", "extensions": [1]}}
            for n in names
        ],
        "users": [{"name": "staging", "user": user}, {"name": "production", "user": {"token": "SECRET"}}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ca.pem", "client.pem", "client.key", "token"):
        (tmp_path / name).write_text(f"{name}\n")
    return tmp_path


def cut(folder: Path, document: Any, context: str = "staging") -> dict[str, Any]:
    (folder / "config").write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return yaml.safe_load(read(str(folder / "config"), context))


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_only_the_chosen_context_is_kept_with_its_files_inside(folder: Path) -> None:
    user = {"client-certificate": "client.pem", "client-key": str(folder / "client.key")}
    assert cut(folder, whole(**user)) == {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "staging",
        "contexts": [{"name": "staging", "context": {"cluster": "staging", "user": "staging"}}],
        "clusters": [
            {
                "name": "staging",
                "cluster": {"server": "https://staging", "certificate-authority-data": coded("ca.pem\n")},
            }
        ],
        "users": [
            {
                "name": "staging",
                "user": {
                    "client-certificate-data": coded("client.pem\n"),
                    "client-key-data": coded("client.key\n"),
                },
            }
        ],
    }


def test_a_token_file_becomes_a_token(folder: Path) -> None:
    assert cut(folder, whole(tokenFile="token"))["users"][0]["user"] == {"token": "token"}


def test_a_program_is_found_from_elsewhere(folder: Path) -> None:
    def program(command: str) -> str:
        return cut(folder, whole(exec={"command": command, "args": ["x"]}))["users"][0]["user"]["exec"]["command"]

    assert program("aws") == "aws"
    assert program("./bin/login") == str(folder / "bin/login")
    assert program("/usr/bin/login") == "/usr/bin/login"


def test_what_others_do_to_the_file_is_no_change(folder: Path) -> None:
    first = cut(folder, whole(token="T"))
    document = whole(token="T")
    document["users"][1]["user"] = {"token": "other"}
    document["clusters"][0]["cluster"]["extensions"] = [2]
    assert cut(folder, document | {"current-context": "staging"}) == first


@pytest.mark.parametrize(
    ("document", "context", "says", "part"),
    [
        (whole(token="T"), "nowhere", "no such context in the kubeconfig, which has production, staging", "context"),
        ({**whole(token="T"), "clusters": []}, "staging", "'staging': no such cluster", "context"),
        ({**whole(token="T"), "users": None}, "staging", "'staging': no such user", "context"),
        (whole(**{"client-key": "gone"}), "staging", "client-key 'gone' cannot be read: No such file", "kubeconfig"),
        (whole(**{"auth-provider": {"name": "gcp"}}), "staging", "uses exec instead", "context"),
        ("not: a kubeconfig", "staging", "is no kubeconfig", "kubeconfig"),
        ("{", "staging", "is no kubeconfig", "kubeconfig"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said(folder: Path, document: Any, context: str, says: str, part: str) -> None:
    with pytest.raises(KubeconfigError, match=says) as raised:
        cut(folder, document, context)
    assert raised.value.part == part
    assert "SECRET" not in str(raised.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="does not exist"):
        read(str(tmp_path / "none"), "x")
