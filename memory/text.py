"""Text as Postgres and a terminal can take it: the one place where characters are dropped."""

from __future__ import annotations

import re

UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters but tab, newline and return, and lone surrogates: Postgres refuses NUL and what is not UTF-8."""


def cleaned(text: str) -> str:
    """`text` without NUL, control characters and lone surrogates; everything else stays verbatim."""
    return UNWANTED.sub("", text)
