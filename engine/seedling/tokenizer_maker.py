"""Trains the seedling's tokenizer on the project's own texts: `python -m engine.seedling.tokenizer_maker FOLDER...`.

Run by hand, once per version of the seedling; what it writes, `tokenizer.json`, is part of the package. The same texts
give the same bytes. Knows byte-level BPE; does not know the model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.seedling.prose import prose
from engine.seedling.template import CHAT_TEMPLATE, CONTROL
from engine.seedling.weights import VOCABULARY

PIECES = r" ?\p{Ll}+|\p{Lu}+(?!\p{Ll})|\p{Lu}\p{Ll}*|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+|\p{L}+"
"""What is never merged: digits, and a space with the capital after it. So a number or a name is of the same tokens
wherever it stands, and can be copied by a model that is too small to know two spellings of it as one."""

KINDS = (".md", ".py", ".toml", ".sql", ".yml", ".txt")


def make(texts: Iterable[str]) -> str:
    """Trains on `texts` and returns the tokenizer as JSON: 4,096 ids, control tokens first, then all bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
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
    return str(tokenizer.to_str(pretty=False)) + "\n"


def project_texts(folders: Iterable[Path]) -> Iterator[str]:
    """The project's prose and code below the folders, in the order of their paths."""
    for folder in folders:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
            if path.suffix in KINDS and path.is_file() and not hidden and "node_modules" not in path.parts:
                yield path.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the seedling's tokenizer on the project's own texts.")
    parser.add_argument("folders", nargs="+", type=Path, help="the checkout, and other texts of the project")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("tokenizer.json"))
    given = parser.parse_args()
    content = make([*project_texts(given.folders), *prose(), *([CHAT_TEMPLATE] * 20)])
    given.out.write_text(content, encoding="utf-8")
    sys.stderr.write(f"{given.out}: {len(content)} bytes\n")


if __name__ == "__main__":
    main()
