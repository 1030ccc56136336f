"""Makes the seedling's tokenizer out of texts (`training.texts` gives them); the same texts give the same bytes.

Knows byte-level BPE and what it may merge; does not know the model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.seedling.template import CONTROL
from engine.seedling.weights import VOCABULARY

JSON = r"""": \{"|": "|", "|"\}\}|\{\""""
MARKS = r""" ?[\[({<]+|[.!?,;:"'/\-_)\]]|[^\s\p{L}\p{N}.!?,;:"'/\-_)\]\[({<]+"""
WORDS = r"\p{Lu}+(?!\p{Ll})|\p{Lu}?\p{Ll}+|\p{N}"


def pieces(common: Iterable[str]) -> str:
    """What is merged at most: a blank with a `common` word behind it alone, digits never, nor a mark with what a value
    may begin or end with. So a number or a name is of the same tokens wherever it stands, in a sentence or in a call,
    and can be copied by a model that is too small to know two spellings of it as one."""
    return rf"{JSON}| (?:{'|'.join(sorted(set(common)))})(?!\p{{L}})|{WORDS}|{MARKS}|\s+(?!\S)|\s+|\p{{L}}+"


KINDS = (".md", ".py", ".toml", ".sql", ".yml", ".txt")


def make(texts: Iterable[str], common: Collection[str]) -> str:
    """Trains on `texts` and returns the tokenizer as JSON: 4,096 ids, control tokens first, then all bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _split(common)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"the texts give {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}; give more of them")
    # A common word that the texts do not hold would be cut like " a" and "uthor": it is no common word.
    tokenizer.pre_tokenizer = _split(word for word in common if len(tokenizer.encode(f" {word}").ids) == 1)
    return str(tokenizer.to_str(pretty=False)) + "\n"


def _split(common: Iterable[str]) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces(common)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def project_texts(folders: Iterable[Path]) -> Iterator[str]:
    """The project's prose and code below the folders, in the order of their paths."""
    for folder in folders:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
            if path.suffix in KINDS and path.is_file() and not hidden and "node_modules" not in path.parts:
                yield path.read_text(encoding="utf-8")
