"""What `pulumi preview --json` prints, read strictly.

The format is `PreviewDigest` in `pkg/display/json.go` of Pulumi's sources, written by `pkg/backend/display/json.go`.
It carries no version, so whatever is not exactly known from the engine this project pins is an error: a comment that
leaves something out is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from actions.protocol import Document, Failure, parse
from review.model import ACTION_OF, Action, Found, Named, Resource
from review.values import safe

VERSION = metadata.version("pulumi")
"""The version whose format is known: the SDK's, which is the engine's too."""
_OPS = (
    r"^((create|import|read)(-replacement)?|(delete|discard)(-replaced)?|diff|extend-parameterize|refresh"
    r"|remove-pending-replace|replace|same|update)$"
)
Op = Annotated[str, Field(pattern=_OPS)]
"""The engine's operations: `pkg/resource/deploy/step.go`."""
SAYS_NOTHING = re.compile(r"(update|preview|destroy|refresh) failed|an unhandled error occurred: program exited .*")
"""What the engine says besides the reason."""
# The first comes with every plugin that starts, and we say it once; the next advise what `make down` does; the last is
# told in our words.
NOISE = re.compile(
    r"warning: using pulumi-resource-[\w-]+ from \$PATH at "
    r"|^The resources in the stack have been deleted, but |^If you want to remove the stack completely, "
    r"|^error: the stack is currently locked by |^\s+\S*/locks/\S+: created by "
)
NOT_KNOWN_YET = "The provider for this resource has inputs that are not known during preview."
"""Said of every object while the kubeconfig may change (`step_generator.go` in Pulumi's sources), as the tables do."""
_POLICY = "policy "
_GOES = ("delete", "delete-replaced")


class _Camel(Document):
    model_config = ConfigDict(alias_generator=to_camel)


class State(_Camel):
    """A resource before or after a step: what is needed of `apitype.ResourceV3`."""

    model_config = ConfigDict(extra="ignore")

    inputs: dict[str, Any] = Field(default_factory=dict, repr=False)
    outputs: dict[str, Any] = Field(default_factory=dict, repr=False)


class PropertyDiff(_Camel):
    """How a property differs; `input_diff` says that the old inputs, not the old outputs, are what it differs from."""

    kind: Literal["add", "add-replace", "delete", "delete-replace", "update", "update-replace"]
    input_diff: bool


class Step(_Camel, Named):
    """What the engine intends for one resource. `detailed_diff` is by property path, such as `spec.ports[0].port`."""

    op: Op
    urn: str = Field(pattern=r"^urn:pulumi:[^:]*::[^:]*::[^:]+(:[^:]+)*::")
    provider: str = ""
    old_state: State = State()
    new_state: State = State()
    diff_reasons: Sequence[str] = ()
    replace_reasons: Sequence[str] = ()
    detailed_diff: dict[str, PropertyDiff] | None

    @property
    def action(self) -> Action | None:
        """What becomes of the resource; None when nothing does."""
        return ACTION_OF.get(self.op)

    @property
    def resource(self) -> Resource:
        """The resource as it is to be; one that goes, as it was."""
        state = self.new_state if "new_state" in self.model_fields_set else self.old_state
        return Resource(self.urn, state.inputs, secrets_hidden=True)


class Diagnostic(_Camel):
    """Something the engine, a plugin or the program said."""

    urn: str = ""
    prefix: str = ""
    message: str = ""
    severity: Literal["", "info", "info#err", "warning", "error"] = ""

    @property
    def text(self) -> str:
        """What of it is worth reading, with nothing secret in it; empty when that is nothing."""
        name = f"{self.urn.rsplit('::', 1)[-1]}: " if self.urn else ""
        text = name + safe((self.prefix + self.message).strip())
        noise = NOISE.search(text) or SAYS_NOTHING.match(text.removeprefix("error: ")) or NOT_KNOWN_YET in text
        return "" if noise else text


class Preview(_Camel):
    """All of it. What is empty is left out by the engine."""

    config: dict[str, str] = Field(default_factory=dict, repr=False)
    steps: Sequence[Step] = ()
    diagnostics: Sequence[Diagnostic] = ()
    duration: int = 0
    change_summary: dict[Op, int] = Field(default_factory=dict)
    maybe_corrupt: bool = False

    @property
    def failed(self) -> bool:
        """Whether the engine gave up, so that the steps are not all there is."""
        return any(said.severity == "error" for said in self.diagnostics)

    @property
    def stopped(self) -> bool:
        """Whether a mandatory policy is among the reasons."""
        return any(said.severity == "error" and said.prefix.startswith(_POLICY) for said in self.diagnostics)

    @property
    def new(self) -> bool:
        """Whether the stack was never brought up."""
        return any(step.action == "create" and step.qualified_type == "pulumi:pulumi:Stack" for step in self.steps)

    @property
    def stack(self) -> str:
        """The stack that it is of; empty when it has no steps."""
        return self.steps[0].urn.split(":")[2] if self.steps else ""

    def resources(self) -> Sequence[Resource]:
        """The resources that are to be, each once.

        Raises:
            Failure: the preview failed, or resources that stay the same were left out.
        """
        if self.failed:
            said = [one.message.strip() for one in self.diagnostics if one.severity == "error"]
            raise Failure("the preview failed: " + "; ".join(said))
        if not self.steps or sum(step.op == "same" for step in self.steps) < self.change_summary.get("same", 0):
            raise Failure("resources that stay the same are missing: preview with --show-sames")
        return list({step.urn: step.resource for step in self.steps if step.op not in _GOES}.values())

    def having(self, action: Action) -> Sequence[Step]:
        """The steps of an action, in the engine's order."""
        return [step for step in self.steps if step.action == action]


def read(text: str | bytes) -> Preview:
    """The preview that Pulumi printed.

    Raises:
        Failure: this is not the known format; what differs is named, no value is.
    """
    try:
        preview = parse(Preview, text)
    except Failure as failure:
        problems = str(failure).partition("\n")[2]
        raise Failure(
            "this is not what `pulumi preview --json` of "
            f"Pulumi {VERSION} prints, the version that is pinned:\n{problems}"
        ) from None
    if not preview.change_summary and not preview.failed:
        raise Failure(
            "the preview has neither a summary of changes nor an error; did `pulumi preview --json` end by itself?"
        )
    return preview


def failing(preview: Preview, reason: str) -> Preview:
    """The preview with why it failed, where that was told elsewhere."""
    return preview.model_copy(
        update={"diagnostics": [*preview.diagnostics, Diagnostic(message=reason, severity="error")]}
    )


def judged(preview: Preview, found: Found) -> Preview:
    """The preview with violations before all else it says: of mandatory policies as errors, of others as warnings."""
    said = [
        Diagnostic(
            urn=one.urn,
            prefix=f"{_POLICY}{rule.name}: ",
            message=one.message,
            severity="error" if level == "mandatory" else "warning",
        )
        for level, rule, one in found
    ]
    return preview.model_copy(update={"diagnostics": [*said, *preview.diagnostics]})


def could_not(reason: str) -> Preview:
    """A preview of which there is nothing but why it could not be made."""
    return failing(Preview(), reason)
