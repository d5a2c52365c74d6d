"""What the resources of Kubernetes objects are called in the program: after the object alone, whoever asks for it.

The provider takes over what is there already, and a resource that goes takes its object along. So an object that two resources hold, or
that passes from one resource to another, is gone with the first of them that goes.
"""

from __future__ import annotations

import pulumi
from pulumi.resource import create_urn

Key = tuple[str, str]
"""An object of its kind: namespace and name."""


def resource_name(kind: str, key: Key) -> str:
    """Unlike -, the separator is in no name of Kubernetes: `a-b/c` and `a/b-c` stay two names."""
    return "/".join([kind.lower(), *key])


def formerly(name: str, parent_type: str | None = None) -> pulumi.Alias:
    """What a state of the time before calls it: by its own type of parent, or by another one."""
    return pulumi.Alias(name=name, parent=create_urn("any", parent_type)) if parent_type else pulumi.Alias(name=name)
