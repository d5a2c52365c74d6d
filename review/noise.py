"""What Pulumi says that tells its reader nothing."""

from __future__ import annotations

import re

SAYS_NOTHING = re.compile(
    r"(update|preview|destroy|refresh) failed|an unhandled error occurred: program exited with .*"
)
"""What the engine says besides the reason."""
# The first is said again with every plugin that starts, where we say it once; the next advises what `make down` does next, the last is told
# in our words.
NOISE = re.compile(
    r"warning: using pulumi-resource-[\w-]+ from \$PATH at "
    r"|^The resources in the stack have been deleted, but |^If you want to remove the stack completely, "
    r"|^error: the stack is currently locked by |^\s+\S*/locks/\S+: created by "
)
NOT_KNOWN_YET = "The provider for this resource has inputs that are not known during preview."
"""Said of every object while the kubeconfig may change (`step_generator.go` in Pulumi's sources); the tables say it by themselves."""


def says_nothing(text: str) -> bool:
    """Whether a diagnostic says nothing about the change."""
    return bool(NOISE.search(text) or SAYS_NOTHING.match(text.removeprefix("error: ")) or NOT_KNOWN_YET in text)
