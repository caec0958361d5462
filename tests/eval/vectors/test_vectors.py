"""Vectors with classes planted in them are found; a patient never tests what it trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from agent.cli.app import build_app
from core_model.errors import CohortError, GiantError, UsageError
from core_model.features.tiles import TileFeatures
from eval.benchmarks.questions import Question
from eval.vectors import cohort as cohort_vectors
from eval.vectors.cohort import VectorPlan, evaluate_vectors, read_reports, slides_of, survival_of
from eval.vectors.measure import TEMPLATES, Vectors, figure, measure_vectors, phrasings, probe

OPTIONS = ("grey", "pink")


class WordModel:
    """Texts as vectors: grey along the first axis, pink along the second. Slides are their mean tile."""

    name = "words"
    tile_encoder = None

    def embed_text(self, texts: list[str]) -> np.ndarray:
        rows = [["grey" in text, "pink" in text, 0.1] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, 3)

    def embed_slide(self, features: TileFeatures) -> np.ndarray:
        return features.features.mean(axis=0)


def question(name: str, answer: str, asked: str = "Which?", options: Any = OPTIONS) -> Question:
    return Question(
        benchmark="colour", id=name, slide=f"{name}.tiff", question=asked, prompt=asked, options=options,
        answer=answer, metric="accuracy" if options else "text",
    )  # fmt: skip


def planted(n: int = 40, noise: float = 0.05) -> tuple[Vectors, list[Question]]:
    rng = np.random.default_rng(0)
    classes = [OPTIONS[i % 2] for i in range(n)]
    images = WordModel().embed_text(classes) + noise * rng.normal(size=(n, 3)).astype(np.float32)
    names = [f"s{i}" for i in range(n)]
    questions = [
        question(name, said, options=OPTIONS if i % 3 else OPTIONS[::-1])
        for i, (name, said) in enumerate(zip(names, classes, strict=True))
    ]
    patients = [f"p{i // 2}" for i in range(n)]
    return Vectors(names, patients, images, np.arange(n), images.copy()), questions


def test_planted_classes_are_found() -> None:
    vectors, questions = planted()
    found = measure_vectors(vectors, questions, WordModel())
    assert found["retrieval"]["slide_to_report"]["recall_1"]["value"] == 1.0
    assert found["retrieval"]["report_to_slide"]["recall_10"]["chance"] == 0.25
    task = found["tasks"]["colour"]
    assert (task["slides"], task["classes"], task["largest_class"]) == (40, 2, 0.5)
    assert task["zero_shot"] == {"value": 1.0, "sd": 0.0, "low": 1.0, "high": 1.0, "chance": 0.5}
    assert task["linear_probe"]["value"] == 1.0
    assert task["retrieval"]["acc_1"]["value"] == 1.0


def test_noise_is_chance() -> None:
    vectors, questions = planted(200, noise=100.0)
    task = measure_vectors(vectors, questions, WordModel())["tasks"]["colour"]
    for found in (task["zero_shot"], task["linear_probe"], *task["retrieval"].values()):
        assert found["value"] == pytest.approx(found["chance"], abs=0.15)


def test_only_slides_with_a_report_are_sought_by_it() -> None:
    vectors, _ = planted()
    some = Vectors(vectors.slides, vectors.patients, vectors.images, np.array([3, 8]), vectors.images[[3, 8]])
    found = measure_vectors(some, [], WordModel())
    assert (found["reports"], found["retrieval"]["slide_to_report"]["recall_1"]["chance"]) == (2, 0.5)
    none = Vectors(vectors.slides, vectors.patients, vectors.images, np.array([], int), np.zeros((0, 3)))
    assert measure_vectors(none, [], WordModel())["retrieval"] is None


def test_zero_shot_is_balanced_as_scikit_learn_has_it() -> None:
    from sklearn.metrics import balanced_accuracy_score

    vectors, questions = planted(60, noise=1.0)
    keep = [i for i in range(60) if i % 2 or i < 20]
    some = Vectors(
        [vectors.slides[i] for i in keep], [vectors.patients[i] for i in keep], vectors.images[keep],
        np.array([], int), np.zeros((0, 3)),
    )  # fmt: skip
    value = measure_vectors(some, questions, WordModel())["tasks"]["colour"]["zero_shot"]["value"]
    said = [OPTIONS[i] for i in vectors.images[keep][:, :2].argmax(axis=1)]
    assert value == pytest.approx(balanced_accuracy_score([OPTIONS[i % 2] for i in keep], said))


def test_slides_of_one_patient_are_drawn_together() -> None:
    """Ten slides each: alone they would promise a spread that is three times too small."""
    hits = np.repeat(np.arange(20) % 2, 10).astype(float)
    codes = np.zeros(200, dtype=int)
    together = figure("accuracy", codes, hits, [str(i // 10) for i in range(200)], 0.5)
    alone = figure("accuracy", codes, hits, [str(i) for i in range(200)], 0.5)
    assert together["sd"] == pytest.approx(0.5 / 20**0.5, rel=0.1)
    assert alone["sd"] == pytest.approx(0.5 / 200**0.5, rel=0.1)


def test_a_probe_is_never_tested_on_a_patient_that_it_saw() -> None:
    """Each patient has a colour at random and two slides that are just alike: leaking would be perfect."""
    rng = np.random.default_rng(1)
    owners = [f"p{i // 2}" for i in range(120)]
    vectors = np.repeat(rng.normal(size=(60, 40)), 2, axis=0)
    truth = [OPTIONS[i] for i in np.repeat(rng.integers(0, 2, 60), 2)]
    said = probe(vectors, truth, owners)
    assert said is not None
    assert np.mean([a == b for a, b in zip(said, truth, strict=True)]) < 0.7


def test_a_probe_does_not_depend_on_the_scale_of_channels() -> None:
    """What tells the classes apart is a thousand times smaller than the rest."""
    rng = np.random.default_rng(4)
    truth = [OPTIONS[i % 2] for i in range(60)]
    vectors = np.stack([0.001 * (np.arange(60) % 2), *rng.normal(size=(3, 60))], axis=1)
    assert probe(vectors, truth, [str(i) for i in range(60)]) == truth


def test_too_few_patients_for_a_probe() -> None:
    assert probe(np.eye(4), ["a", "a", "b", "b"], list("wxyz")) is None


def test_a_probe_needs_as_many_patients_as_folds_in_the_rarest_class() -> None:
    """Five patients of each class are enough; ten slides of four patients are not."""
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    truth = ["a"] * 10 + ["b"] * 10
    five = [f"{label}{i % 5}" for i, label in enumerate(truth)]
    four = [f"{label}{i % 4 if label == 'b' else i}" for i, label in enumerate(truth)]
    assert probe(vectors, truth, five) is not None
    assert probe(vectors, truth, four) is None


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([question("s0", "grey", options=None), question("s1", "pink", options=None)], "open"),
        ([question("s0", "grey"), question("s1", "pink", options=("pink", "red"))], "different options"),
        ([question("s0", "grey"), question("s0", "pink").model_copy(update={"id": "2"})], "of one slide"),
        ([question("s0", "grey"), question("s1", "grey")], "of one class"),
        (
            [question("s0", "yes", "Grey?", ("yes", "no")), question("s1", "no", "Pink?", ("yes", "no"))],
            "give --prompts",
        ),
    ],
)
def test_what_does_not_sort_slides_is_said_to_be_left_out(asked: list[Question], says: str) -> None:
    vectors, _ = planted()
    found = measure_vectors(vectors, asked, WordModel())
    assert not found["tasks"]
    assert says in found["skipped"]["colour"]


def test_a_class_goes_by_its_name_and_as_an_answer() -> None:
    asked = [question("s0", "grey", "How many?"), question("s1", "grey", "x" * 200)]
    found = phrasings("no tumour", asked)
    assert found[: len(TEMPLATES)] == [template.format("no tumour") for template in TEMPLATES]
    assert found[len(TEMPLATES) :] == ["How many: no tumour"]  # the long one would leave it no room
    assert phrasings("grey", asked, {"grey": ["slate"]}) == ["slate"]
    with pytest.raises(GiantError, match="no phrasing of 'pink' in task colour"):
        phrasings("pink", asked, {"grey": ["slate"]})


# ---- a cohort's folder ----


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve slides as features of one tile, two to a patient; two thirds of them are for training."""
    monkeypatch.setattr("core_model.load_model", lambda name: WordModel())
    (tmp_path / "features").mkdir()
    rows = ["benchmark_name,benchmark_id,image_path,answer,options,metric_type,prompt"]
    reports = []
    for i in range(12):
        said = OPTIONS[i % 2]
        with h5py.File(tmp_path / "features" / f"s{i:02}.h5", "w") as file:
            file["features"] = WordModel().embed_text([said]) + np.float32(0.001 * i)
            file["coords"] = np.zeros((1, 2), dtype=np.int64)
            file["coords"].attrs.update({"patch_size_level0": 256, "level0_magnification": 20})
        rows.append(f"colour,{i},s{i:02}.tiff,{i % 2 + 1},\"['grey', 'pink']\",accuracy,Which colour?")
        reports.append(json.dumps({"slide": f"s{i:02}", "report": f"It is {said}."}))
    (tmp_path / "questions.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "reports.jsonl").write_text("\n".join(reports) + "\n")
    splits = {"train": [f"s{i:02}" for i in range(8)], "val": [f"s{i:02}" for i in range(8, 12)]}
    (tmp_path / "split.json").write_text(json.dumps(splits))
    return tmp_path


def test_a_cohort_is_measured_from_its_features(cohort: Path, tmp_path: Path) -> None:
    found = evaluate_vectors(VectorPlan(cohort, "all"), "words", tmp_path / "out")
    assert found == json.loads((tmp_path / "out" / "vectors.json").read_text())
    assert (found["slides"], found["patients"], found["missing"]) == (12, 12, [])
    # equal reports share their places: six slides of a colour, six texts for each
    assert found["retrieval"]["slide_to_report"]["recall_3"]["value"] == pytest.approx(3 / 6)
    assert found["tasks"]["colour"]["zero_shot"]["value"] == 1.0


def test_which_slides(cohort: Path) -> None:
    assert (
        slides_of(VectorPlan(cohort)) == slides_of(VectorPlan(cohort, "val")) == ["s08", "s09", "s10", "s11"]
    )
    assert len(slides_of(VectorPlan(cohort, "train"))) == 8
    assert slides_of(VectorPlan(cohort, "all", limit=2)) == ["s00", "s01"]
    (cohort / "split.json").unlink()
    assert len(slides_of(VectorPlan(cohort))) == 12
    with pytest.raises(UsageError, match="no split 'test'"):
        slides_of(VectorPlan(cohort, "test"))
    with pytest.raises(CohortError, match="no slides under 'train'"):
        slides_of(VectorPlan(cohort, "train"))
    with pytest.raises(CohortError, match="has no slides"):
        slides_of(VectorPlan(cohort / "nowhere"))


def test_a_slide_that_cannot_be_read_is_named(cohort: Path, tmp_path: Path) -> None:
    (cohort / "features" / "s09.h5").write_bytes(b"half a file")
    (cohort / "features" / "s10.h5").unlink()
    found = evaluate_vectors(VectorPlan(cohort), "words", tmp_path / "out")
    assert found["slides"] == 2
    assert [one["slide"] for one in found["missing"]] == ["s09", "s10"]
    for name in ("s08", "s11"):
        (cohort / "features" / f"{name}.h5").unlink()
    with pytest.raises(CohortError, match="none of the 4 slides can be read"):
        evaluate_vectors(VectorPlan(cohort), "words", tmp_path / "out")


def test_patients_and_survival_from_tables(cohort: Path, tmp_path: Path) -> None:
    """Two slides to a patient; the patients die in the order of their slides."""
    slides = [f"s{i:02}" for i in range(12)]
    people, deaths = cohort / "people.csv", cohort / "deaths.csv"
    people.write_text("slide,patient\n" + "".join(f"{s}.tiff,p{i // 2}\n" for i, s in enumerate(slides)))
    deaths.write_text("slide,time,event\n" + "".join(f"{s},{i // 2},1\n" for i, s in enumerate(slides)))
    wanted = VectorPlan(cohort, "all", patients=people, survival=deaths)
    found = evaluate_vectors(wanted, "words", tmp_path / "out")
    assert (found["patients"], found["survival"]["patients"], found["survival"]["events"]) == (6, 6, 6)
    deaths.write_text(deaths.read_text().replace("s01,0,1", "s01,0,0"))
    with pytest.raises(CohortError, match="different times or events"):
        evaluate_vectors(wanted, "words", tmp_path / "out")
    people.write_text("slide,patient\ns00,p\n")
    with pytest.raises(CohortError, match="names no patient for slide s01"):
        evaluate_vectors(wanted, "words", tmp_path / "out")


def test_survival_takes_a_patient_once() -> None:
    rng = np.random.default_rng(0)
    risk = rng.normal(size=80)
    images = np.repeat(np.stack([np.exp(risk), np.ones(80), np.ones(80)], axis=1), 3, axis=0)
    names = [f"s{i}" for i in range(240)]
    vectors = Vectors(names, [f"p{i // 3}" for i in range(240)], images, np.array([], int), np.zeros((0, 3)))
    time = rng.exponential(np.exp(-2 * risk))
    found = survival_of(vectors, {f"s{i}": (time[i // 3], True) for i in range(240)})
    assert (found["patients"], found["events"]) == (80, 80)
    assert found["c_index"]["low"] > 0.6
    assert survival_of(vectors, {})["c_index"] is None


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        *(
            ("survival", f"slide,time,event\ns00,{cells}\n", "line 2 has no time")
            for cells in ("later,1", "nan,1", "1,perhaps")
        ),
        ("survival", "slide,time\ns00,1\n", "has no column event"),
        ("prompts", "{", "cannot be read"),
        *(
            ("prompts", f'{{"colour": {classes}}}', "no lists of phrasings")
            for classes in ('["grey"]', '{"grey": "slate"}')
        ),
    ],
)
def test_tables_that_are_none(cohort: Path, tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / "table").write_text(text)
    with pytest.raises(CohortError, match=says):
        evaluate_vectors(VectorPlan(cohort, **{name: tmp_path / "table"}), "words", tmp_path / "out")


def test_reports_that_are_none(tmp_path: Path) -> None:
    assert read_reports(tmp_path) == {}
    (tmp_path / "reports.jsonl").write_text('{"slide": "a"}\n')
    with pytest.raises(CohortError, match="line 1 has no slide or no report"):
        read_reports(tmp_path)


def test_vectors_that_are_not_finite_end_it(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WordModel, "embed_slide", lambda self, features: np.full(3, np.nan, np.float32))
    with pytest.raises(GiantError, match="not finite"):
        evaluate_vectors(VectorPlan(cohort), "words", tmp_path / "out")


def test_the_command_prints_chance_beside_every_figure(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = [
        "eval",
        "vectors",
        "--data",
        str(cohort),
        "--model",
        "words",
        "--out",
        str(out),
        "--split",
        "all",
    ]
    done = CliRunner().invoke(build_app(), given)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert {"what", "figure", "chance"} <= set(lines[0].split())
    recall = next(line for line in lines if "recall@3" in line)
    assert recall.split()[-1] == "25.0"
    assert "zero-shot (balanced)" in done.stdout
    assert str(out / cohort_vectors.VECTORS) in done.stdout
    assert "12/12 slides read" in done.stderr
