"""Secrets in prose: keys, tokens, passwords, found by detect-secrets. Knows text; does not know what follows."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

BY_PREFIX = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\b[Bb]earer\s+[A-Za-z0-9._~+/-]{20,}")
"""Keys of model providers, and bearer tokens, which detect-secrets does not know."""


def secret_in(text: str) -> str:
    """What kind of secret stands in a text, or "". It is loaded with the first call."""
    scan = _scanner()
    for line in text.splitlines():
        if found := "API key" if BY_PREFIX.search(line) else scan(line):
            return found
    return ""


@cache
def _scanner() -> Any:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.settings import transient_settings

    # Of entropy alone a word of another language would be accused; these know what they look for.
    passed_over = ("Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector")
    kinds = [kind for kind in get_mapping_from_secret_type_to_class().values() if kind.__name__ not in passed_over]
    with transient_settings({"plugins_used": [{"name": kind.__name__} for kind in kinds]}):
        detectors: list[Any] = [kind() for kind in kinds]

    def scan(line: str) -> str:
        for one in detectors:
            if any(one.analyze_string(line)):
                return str(one.secret_type)
        return ""

    return scan
