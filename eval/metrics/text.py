"""Words held against words: BLEU-1 to 4, ROUGE-L, METEOR, each by the library that is usual for it.

N pairs of a reference and what was said instead. All values are shares in [0, 1]. An answer that was not
given is the empty text and scores 0, so leaving out what is hard does not help.
"""

from __future__ import annotations

from collections.abc import Sequence

from core_model.errors import GiantError


class _NoSynonyms:
    """Stands for WordNet, which is a download of its own: no word has a synonym."""

    @staticmethod
    def synsets(word: str) -> list[object]:
        return []


def text_metrics(references: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """`bleu_1` … `bleu_4` of the whole (sacrebleu), means of `rouge_l` (F1, stemmed) and `meteor`.

    METEOR matches equal words and equal stems; synonyms would need WordNet and are not matched, so its
    values are a little below those of papers that used it. Raises `GiantError` where the libraries are not
    installed, `ValueError` for no pairs.
    """
    if len(references) != len(said) or not references:
        raise ValueError(f"{len(references)} references and {len(said)} answers cannot be compared")
    try:
        from nltk.stem.porter import PorterStemmer
        from nltk.translate.meteor_score import single_meteor_score
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise GiantError(
            "text metrics need sacrebleu, rouge-score and nltk", fix="pip install 'giant-pathology[eval]'"
        ) from error
    n = len(references)
    found = {}
    for order in (1, 2, 3, 4):
        bleu = BLEU(max_ngram_order=order, lowercase=True, effective_order=False)
        found[f"bleu_{order}"] = bleu.corpus_score(list(said), [list(references)]).score / 100
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    found["rouge_l"] = (
        sum(rouge.score(r, s)["rougeL"].fmeasure for r, s in zip(references, said, strict=True)) / n
    )
    stemmer, synonyms = PorterStemmer(), _NoSynonyms()
    found["meteor"] = (
        sum(
            single_meteor_score(r.split(), s.split(), stemmer=stemmer, wordnet=synonyms)
            for r, s in zip(references, said, strict=True)
        )
        / n
    )
    return found
