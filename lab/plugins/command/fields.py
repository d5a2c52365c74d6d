"""Input checking: which inputs a resource type has, of what kind, and what they default to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from lab.plugins.values import Properties, Unknown, plain

Test = Callable[[Any], bool]


def text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def flag(value: Any) -> bool:
    """A boolean."""
    return isinstance(value, bool)


def texts(value: Any) -> bool:
    """A list of strings."""
    return isinstance(value, list) and all(_known(item, text) for item in cast(list[Any], value))


def sequence(value: Any) -> bool:
    """A list."""
    return isinstance(value, list)


def text_table(value: Any) -> bool:
    """A table of strings."""
    return isinstance(value, dict) and all(_known(item, text) for item in cast(dict[str, Any], value).values())


def one_of(*allowed: str) -> Test:
    """One of a few strings."""

    def test(value: Any) -> bool:
        """One of a few strings."""
        return value in allowed

    return test


def _known(value: Any, test: Test) -> bool:
    return isinstance(value, Unknown) or test(value)


def problems(values: Properties, tests: Mapping[str, Test], required: tuple[str, ...]) -> dict[str, str]:
    """What is wrong with `values`: missing, unknown and ill-typed inputs, by their path. Never shows a value."""
    found = {f"{name}": "a value is needed" for name in required if values.get(name) is None}
    for name, value in plain(values).items():
        if name not in tests:
            found[f"{name}"] = f"there is no such input; known are {', '.join(sorted(tests))}"
        elif value is not None and not _known(value, tests[name]):
            found[f"{name}"] = f"expected: {(tests[name].__doc__ or '').rstrip('.').lower()}"
    return found
