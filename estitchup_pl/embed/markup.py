"""Plain text out of text that holds HTML."""

from __future__ import annotations

import html
import re
from typing import Final

_UNSEEN: Final = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"</?[a-z][^<>]*>|<[!?][^<>]*>", re.IGNORECASE)


def strip_markup(text: str) -> str:
    """Text as a reader of the page sees it: no tags, entities resolved, white space collapsed.

    Tags separate words, as most of them do on the page. Text without markup keeps its words, and a lone ``<``
    stays what it is.

    Example:
        >>> strip_markup("<p>Blue&nbsp;shirt<br />100&#37; cotton</p><style>p {}</style>")
        'Blue shirt 100% cotton'
        >>> strip_markup("sizes < 8 & > 4")
        'sizes < 8 & > 4'
    """
    return " ".join(html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text))).split())
