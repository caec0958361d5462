"""Text metrics of answers against references: BLEU-1 to 4, ROUGE-L, METEOR, each by its usual library.

N pairs of a reference and what was said instead. All values are shares in [0, 1]. An answer that was not
given is the empty text and scores 0, so leaving out what is hard does not help.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from core_model.errors import GiantError

_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
_WORD = re.compile(r"[^\W_]+")


class _NoSynonyms:
    """Stands for WordNet, which is a download of its own: no word has a synonym."""

    @staticmethod
    def synsets(word: str) -> list[object]:
        return []


class _Stemmer:
    """Stems each word once: texts about slides share most of theirs."""

    def __init__(self, stem: Callable[[str], str]) -> None:
        self.stem = lru_cache(maxsize=1 << 16)(stem)


class _Words:
    """Splits a text for ROUGE: for ASCII just as its library does, which drops all other letters."""

    def __init__(self, stem: Callable[[str], str]) -> None:
        self.stem = stem

    def tokenize(self, text: str) -> list[str]:
        """Words and numbers in small letters, those of more than three letters as stems."""
        return [self.stem(word) if len(word) > 3 else word for word in _words(text)]


def text_metrics(references: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """`bleu_1` … `bleu_4` of the whole (sacrebleu), means of `rouge_l` (F1, stemmed) and `meteor`.

    BLEU-n weighs runs of 1 to n words alike, without regard to case. METEOR matches equal words and equal
    stems, no punctuation; synonyms would need WordNet and are not matched, so its values are a little below
    those of papers that used it. Signs of scripts without spaces between words count as words. Raises
    `GiantError` where the libraries are not installed, `ValueError` for no pairs.
    """
    if len(references) != len(answers) or not references:
        raise ValueError(f"{len(references)} references and {len(answers)} answers cannot be compared")
    try:
        from nltk.stem.porter import PorterStemmer
        from nltk.translate.meteor_score import single_meteor_score
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise GiantError(
            "text metrics need sacrebleu, rouge-score and nltk", fix="pip install 'giant-pathology[eval]'"
        ) from error
    spaced_references, hypotheses = (
        [_spaced(text) for text in references],
        [_spaced(text) for text in answers],
    )
    pairs = list(zip(spaced_references, hypotheses, strict=True))
    bleu = BLEU(lowercase=True).corpus_score(hypotheses, [spaced_references])
    figures = {
        f"bleu_{n}": BLEU.compute_bleu(
            bleu.counts[:n], bleu.totals[:n], bleu.sys_len, bleu.ref_len, "exp", max_ngram_order=n
        ).score
        / 100
        for n in (1, 2, 3, 4)
    }
    stemmer, synonyms = _Stemmer(PorterStemmer().stem), _NoSynonyms()
    rouge = RougeScorer(["rougeL"], tokenizer=_Words(stemmer.stem))
    figures["rouge_l"] = sum(rouge.score(r, s)["rougeL"].fmeasure for r, s in pairs) / len(pairs)
    meteors = (single_meteor_score(_words(r), _words(s), stemmer=stemmer, wordnet=synonyms) for r, s in pairs)
    figures["meteor"] = sum(meteors) / len(pairs)
    return figures


def _spaced(text: str) -> str:
    return _UNSPACED.sub(r" \1 ", text)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
