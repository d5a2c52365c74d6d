"""Whose an instance is: a mark in the machine, and a claim beside us."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from actions.machines.cloud_init import cloud_config
from actions.machines.driver import MachineSpec
from actions.machines.multipass.cli import DELETED, OWNER_FILE, RUNNING, Identity, Instance
from actions.machines.multipass.options import Options
from actions.protocol import Failure


@dataclass(frozen=True)
class Claim:
    """That we are about to make, or have made, an instance.

    Attributes:
        owner: whose it is.
        user: who may log in.
        host_key: empty until it was seen.
        made_from: see `made_from`; empty where that is not known.
    """

    owner: str
    user: str
    host_key: str = ""
    made_from: str = ""


class Claims:
    """One small file per machine name: whose the instance of that name is."""

    def __init__(self, options: Options) -> None:
        """Keep them in a folder of their own in the driver's; those of an earlier version are read where they are."""
        self._folder = options.state_dir / "claims"
        self._earlier = options.earlier_dir / "claims"

    def get(self, name: str) -> Claim | None:
        """The claim to an instance of that name."""
        for file in self._files(name):
            with contextlib.suppress(FileNotFoundError):
                return Claim(**json.loads(file.read_text(encoding="utf-8")))
        return None

    def of(self, owner: str) -> dict[str, Claim]:
        """All claims of an owner, by the instance's name."""
        names = {file.stem for folder in (self._folder, self._earlier) for file in folder.glob("*.json")}
        found = {name: claim for name in names if (claim := self.get(name))}
        return {name: claim for name, claim in found.items() if claim.owner == owner}

    def put(self, name: str, claim: Claim) -> None:
        """Write it, in one step."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file, *_ = self._files(name)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(dataclasses.asdict(claim)), encoding="utf-8")
        new.replace(file)

    def drop(self, name: str) -> None:
        """Remove it, if there is one."""
        for file in self._files(name):
            file.unlink(missing_ok=True)

    def _files(self, name: str) -> list[Path]:
        return [folder / f"{name}.json" for folder in (self._folder, self._earlier)]


def made_from(spec: MachineSpec) -> str:
    """Changes with whatever only a new instance can follow: image, user and user-data; not with sizes and mounts."""
    return hashlib.sha256("\0".join((spec.image, spec.user, spec.user_data)).encode()).hexdigest()[:16]


def with_owner(user_data: str, owner: str) -> str:
    """The same user-data, which writes `OWNER_FILE` first.

    Raises:
        Failure: it is not in the cloud-config format, which is all that Multipass takes.
    """
    try:
        document = yaml.safe_load(user_data)
    except yaml.YAMLError as error:
        raise Failure(f"the user-data is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise Failure("the user-data is no cloud-config document; Multipass takes nothing else")
    table = cast("dict[str, Any]", document)
    mark = {"path": OWNER_FILE, "permissions": "0644", "content": f"{owner}\n"}
    return cloud_config({**table, "write_files": [mark, *table.get("write_files", [])]})


def see_that_ours(instance: Instance, owner: str, claims: Claims, identity: Identity | None) -> None:
    """Whose an instance is; `identity` is what it says itself, None where it cannot be asked.

    Raises:
        Failure: it is not ours, or nothing says that it is.
    """
    name, claim = instance.name, claims.get(instance.name)
    rid = f"`multipass delete --purge {name}` removes it and frees its name"
    if identity is not None and identity.owner != owner and not _lost_its_mark(identity, claim, owner):
        if claim and claim.owner == owner:
            claims.drop(name)  # what it was for is gone
        whose = (
            f"belongs to {identity.owner!r}"
            if identity.owner
            else f"has no {OWNER_FILE}, which cloud-init writes in ours"
        )
        raise Failure(
            f"there is an instance {name} that {whose}, not to {owner!r}; it is left alone. Choose another name, or: {rid}"
        )
    if identity is None and (claim is None or claim.owner != owner):
        look = {
            DELETED: f"`multipass recover {name}` and `multipass start {name}`",
            RUNNING: f"a look at why `multipass exec {name} true` fails",
        }.get(instance.state, f"`multipass start {name}`")
        raise Failure(
            f"there is an instance {name}, {instance.state.lower()}, and nothing here says that it belongs to {owner!r}; it is left alone. "
            f"If it is ours, {look} lets it say so itself; then run this again. If it is nobody's, {rid}"
        )


def _lost_its_mark(identity: Identity, claim: Claim | None, owner: str) -> bool:
    """Whether an instance without a mark is the very one that had ours: leaving the mesh once took the mark along with its folder."""
    if identity.owner or claim is None or claim.owner != owner:
        return False
    return bool(claim.host_key) and claim.host_key == identity.host_key
