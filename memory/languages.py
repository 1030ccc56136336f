"""Which language a text is in, as far as its words are to be stemmed.

Knows the languages with a Snowball stemmer that are told apart. A text that is taken for another language than its own
is still found: a question is stemmed in every language in use (`memory.lexemes`), so only texts whose words fall
together in one of them are missed.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

ENGLISH = "english"
SNOWBALL = {
    "da": "danish",
    "de": "german",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ru": "russian",
    "sv": "swedish",
}
"""ISO 639-1 to the name of the stemmer, beside English."""
LANGUAGES = (ENGLISH, *SNOWBALL.values())
LEAST_CHARACTERS = 20
"""Shorter texts tell too little."""
READ_CHARACTERS = 2000
SURE = 0.8
"""Probability below which a text counts as English, as code and lists of names do."""

_loading = threading.Lock()


def detected(text: str) -> str:
    """The name of the stemmer for a text. The first call loads the classifier, which takes half a second."""
    if len(text) < LEAST_CHARACTERS:
        return ENGLISH
    code, probability = _classifier().classify(text[:READ_CHARACTERS])
    return SNOWBALL.get(code, ENGLISH) if probability >= SURE else ENGLISH


def ready() -> bool:
    """Whether `detected` answers at once."""
    return _loaded.cache_info().currsize > 0


def _classifier() -> Any:
    with _loading:
        return _loaded()


@cache
def _loaded() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    classifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    classifier.set_languages(["en", *SNOWBALL])
    return classifier
