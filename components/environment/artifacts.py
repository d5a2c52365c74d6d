"""Artifacts of the settings as machines see them."""

from __future__ import annotations

from actions.artifacts import MachineArtifact
from components.settings import Artifact, MachinesSettings, machine_path


def machine_artifact(machines: MachinesSettings, artifact: Artifact) -> MachineArtifact:
    """The artifact with its path under its mount's target."""
    return MachineArtifact(
        url=artifact.url,
        sha256=artifact.sha256,
        checksums=artifact.checksums,
        path=machine_path(machines, artifact.path) if artifact.path else None,
        arm64=machine_artifact(machines, artifact.arm64) if artifact.arm64 else None,
    )
