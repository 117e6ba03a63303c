"""Markup out, words kept."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estitchup_pl.embed import strip_markup

WORD = st.text("abcxyz0189é%$.,'-", min_size=1, max_size=8)
TAGS = (
    "<p>",
    "</p>",
    "<br />",
    "<li>",
    '<span style="color: red">',
    "<!-- a note -->",
    "<style>p {}</style>",
    "<!DOCTYPE html>",
)


@given(st.lists(st.tuples(st.sampled_from(TAGS), WORD), max_size=12))
def test_words_between_tags_are_what_is_left(parts: list[tuple[str, str]]) -> None:
    page = "".join(tag + html.escape(word) for tag, word in parts)
    assert strip_markup(page) == " ".join(word for _, word in parts)


@given(st.text(max_size=60))
def test_any_text_comes_through_without_raising_and_without_loose_white_space(text: str) -> None:
    plain = strip_markup(text)
    assert plain == " ".join(plain.split())


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", ""),
        ("<p></p>", ""),
        ("I <3 sizes < 8", "I <3 sizes < 8"),
        ("Tom &amp; Jerry&#39;s &nbsp; shirt", "Tom & Jerry's shirt"),
        ("<SCRIPT type='x'>alert('<p>')</script>Shirt", "Shirt"),
        ("<ul><li>one<li>two</ul>", "one two"),
        ("unclosed <b", "unclosed <b"),
        ("<![CDATA[x]]> y", "y"),
    ],
)
def test_quirks_of_real_pages(page: str, text: str) -> None:
    assert strip_markup(page) == text
