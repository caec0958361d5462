"""Rare and common tumours. Rare are here the ten projects that we count to TCGA's rare tumours:

adrenocortical, bile duct, chromophobe kidney, mesothelioma, phaeochromocytoma and paraganglioma, sarcoma,
testicular germ cell, thymoma, uterine carcinosarcoma, uveal melanoma. That there are ten, with sarcoma among
them, is NCI's word (Rare Tumor Characterization Projects). All other tumours count as common; what is no
tumour has no rarity.
"""

from __future__ import annotations

from typing import Literal

from eval.benchmarks.questions import Question

RARE_CODES = frozenset(["ACC", "CHOL", "KICH", "MESO", "PCPG", "SARC", "TGCT", "THYM", "UCS", "UVM"])
RARE_NAMES = frozenset(
    {
        "adrenocortical carcinoma",
        "cholangiocarcinoma",
        "kidney chromophobe",
        "mesothelioma",
        "pheochromocytoma and paraganglioma",
        "sarcoma",
        "testicular germ cell tumors",
        "thymoma",
        "uterine carcinosarcoma",
        "uveal melanoma",
    }
)
TCGA_DIAGNOSES = "tcga"
"""MultiPathQA's task whose classes are TCGA's tumours."""


def rarity(question: Question) -> Literal["rare", "common"] | None:
    """Rare or common, by the right diagnosis or the tumour's code; None where neither is known."""
    if question.benchmark == TCGA_DIAGNOSES:
        return "rare" if question.answer.casefold() in RARE_NAMES else "common"
    code = question.organ
    if code is None or not code.isupper():
        return None
    return "rare" if code in RARE_CODES else "common"
