"""What every table is made from."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Table(BaseModel):
    """A table of a stack file: read-only, and an unknown key is an error."""

    # `reading` builds the validators of whole tables: one for every part as well would only cost time at import.
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, defer_build=True)


@dataclass(frozen=True)
class WhenUnset:
    """An annotation of a setting: what applies without it, in Markdown, where its default is too little to say so."""

    words: str
