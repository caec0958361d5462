"""Vectors with classes planted in them are found; a patient never tests what it trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core_model.errors import CohortError
from eval.questions import Question
from eval.vectors import Vectors, measure, patient_of, probe, read_reports

OPTIONS = ("grey", "pink")


class WordModel:
    """Texts as vectors: grey along the first axis, pink along the second."""

    def embed_text(self, texts: list[str]) -> np.ndarray:
        return np.array([["grey" in text, "pink" in text, 0.1] for text in texts], dtype=np.float32)


def planted(n: int = 40, noise: float = 0.05) -> tuple[Vectors, list[Question]]:
    rng = np.random.default_rng(0)
    classes = [OPTIONS[i % 2] for i in range(n)]
    images = WordModel().embed_text(classes) + noise * rng.normal(size=(n, 3)).astype(np.float32)
    names = [f"s{i}" for i in range(n)]
    questions = [
        Question(
            benchmark="colour", id=name, slide=f"{name}.tiff", question="Which?", prompt="Which?",
            options=OPTIONS if i % 3 else OPTIONS[::-1], answer=said, metric="accuracy",
        )
        for i, (name, said) in enumerate(zip(names, classes, strict=True))
    ]  # fmt: skip
    return Vectors(names, [f"p{i // 2}" for i in range(n)], images, images.copy()), questions


def test_planted_classes_are_found() -> None:
    vectors, questions = planted()
    found = measure(vectors, questions, WordModel())
    assert found["retrieval"]["slide_to_report"]["recall_1"] == 1.0
    task = found["tasks"]["colour"]
    assert (task["slides"], task["classes"], task["zero_shot"], task["linear_probe"]) == (40, 2, 1.0, 1.0)
    assert task["retrieval"]["acc_1"] == 1.0


def test_noise_is_chance() -> None:
    vectors, questions = planted(200, noise=100.0)
    task = measure(vectors, questions, WordModel())["tasks"]["colour"]
    assert abs(task["zero_shot"] - 0.5) < 0.15
    assert abs(task["linear_probe"] - 0.5) < 0.15


def test_a_probe_is_never_tested_on_a_patient_that_it_saw() -> None:
    """Each patient has a colour at random and two slides that are just alike: leaking would be perfect."""
    rng = np.random.default_rng(1)
    owners = [f"p{i // 2}" for i in range(120)]
    vectors = np.repeat(rng.normal(size=(60, 40)), 2, axis=0)
    truth = [OPTIONS[i] for i in np.repeat(rng.integers(0, 2, 60), 2)]
    said = probe(vectors, truth, owners)
    assert said is not None
    assert np.mean([a == b for a, b in zip(said, truth, strict=True)]) < 0.7


def test_too_few_patients_for_a_probe() -> None:
    assert probe(np.eye(4), ["a", "a", "b", "b"], list("wxyz")) is None


def test_patients_of_names() -> None:
    assert patient_of("TCGA-AA-1234-01Z-00-DX1") == "TCGA-AA-1234"
    assert patient_of("phantom_1_2") == "phantom_1_2"


def test_reports_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "reports.jsonl").write_text('{"slide": "a"}\n')
    with pytest.raises(CohortError, match="no readable reports"):
        read_reports(tmp_path)
