"""Where objects of the cluster go."""

from __future__ import annotations

from tests.unit.test_components import Recorder


def test_every_object_goes_to_the_stacks_own_cluster(lab: Recorder) -> None:
    """Without the provider it would go to whatever cluster the operator's own kubeconfig names."""
    objects = {name: args.provider for name, args in lab.made.items() if args.typ.startswith("kubernetes:")}
    assert len(objects) > 20
    assert {name: provider for name, provider in objects.items() if "::cluster-kubernetes::" not in provider} == {}
