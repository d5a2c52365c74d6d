"""Text of others in Markdown."""

import pytest

from review.markdown import MAXIMUM_CHARACTERS, block, code, fitting, row, size
from tests.unit.review.conftest import EVIL, MARKDOWN, unescaped


@pytest.mark.parametrize("text", [*filter(None, EVIL), "`", "a`", " both ", "a``b`c", "\\\\|"])
def test_a_code_span_reads_as_what_went_in(text: str) -> None:
    table = MARKDOWN.parse("\n".join([row("ab"), row(["---"] * 2), row([code(text), "end"])]))
    cells = [token.children or [] for token in table if token.type == "inline"][2:]
    assert [[(child.type, child.content) for child in cell] for cell in cells] == [
        [("code_inline", unescaped(text))],
        [("text", "end")],
    ]


@pytest.mark.parametrize("text", EVIL)
def test_a_block_reads_as_what_went_in(text: str) -> None:
    (token,) = MARKDOWN.parse("\n".join(block([text, "end"], "diff")))
    assert (token.type, token.info, token.content) == ("fence", "diff", f"{unescaped(text)}\nend\n")


def test_long_text_is_cut() -> None:
    assert code("x" * 999) == f"`{'x' * (MAXIMUM_CHARACTERS - 1)}…`"


def test_lines_fit_by_their_bytes() -> None:
    lines = ["é" * 4, "b"]
    assert size(lines) == 11
    assert [len(fitting(lines, budget)) for budget in (8, 9, 10, 11)] == [0, 1, 1, 2]
