"""Reports over several slides: one bad slide stops nothing, and what is complete is not done again."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import batch_jobs as jobs
import pytest
from batch_jobs import dab
from cli_fakes import PaintModel, giant, one_line
from PIL import Image

from agent.batch import batch
from agent.batch import plan as batch_plan
from agent.batch import slide as batch_slide
from agent.batch.batch import Batch, find_slides, folder_names
from agent.batch.plan import BatchPlan
from agent.batch.sections import QuestionRun
from agent.batch.workers import in_this_process
from agent.session.options import AskOptions
from core_model.errors import RunError, UsageError
from core_model.files import held


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    monkeypatch.setattr(batch_plan, "BUILT_IN", jobs.SHORT)
    monkeypatch.setattr(batch_plan, "_from_disk", lambda model: PaintModel())


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line works in this process, where the fake model is."""
    monkeypatch.setattr(batch, "in_processes", lambda work, jobs, count: in_this_process(work, jobs))


def run(*slides: object, watch: Any = None, **options: Any) -> tuple[int, int]:
    """A batch in this process with the fake model."""
    given = {name: options.pop(name) for name in ("workers", "resume") if name in options}
    questions = options.pop("questions", None)
    ask = AskOptions(**{"model": PaintModel(), "mpp": 2.0, "max_steps": 3, **options})
    plan = BatchPlan(Path("out"), ask, questions)
    return Batch(plan, **given).run([Path(str(slide)) for slide in slides], watch)


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out/reports.jsonl").read_text().splitlines()]


def failures() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("out/failures.csv").read_text().splitlines()))


def reported() -> list[str]:
    return [line["slide"] for line in lines()]


def scaled(path: Path, share: float) -> Path:
    """A slide that says its own 2 µm/px."""
    with Image.open(dab(path.with_suffix(".png"), share)) as image:
        image.save(path, resolution=5000, resolution_unit=3)
    path.with_suffix(".png").unlink()
    return path


@pytest.mark.usefixtures("one_process")
def test_bad_slides_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    scaled(slides / "a.tiff", 0.9)
    (slides / "b.svs").write_text("not a slide")
    (slides / "c.svs").touch()
    dab(slides / "d.tiff")  # no µm/px
    Image.new("RGB", (900, 700), (245, 245, 245)).save(
        slides / "e.tiff", resolution=5000, resolution_unit=3
    )  # no tissue
    scaled(slides / "f.tiff", 0.9)
    scaled(slides / "g.tiff", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-anybodys-eyes")
    answer = batch_slide._answered

    def answered(plan: Any, question: Any, slide: Any, folder: Any) -> QuestionRun:
        if slide.name == "f":
            raise ZeroDivisionError("with sk-not-for-anybodys-eyes\nand more")
        return answer(plan, question, slide, folder)

    monkeypatch.setattr(batch_slide, "_answered", answered)
    result = giant("report", slides, "--out", "out", "--max-steps", "4")
    assert result.exit_code == 1
    said = result.stderr.splitlines()
    assert said[-1] == "giant: 5 of 7 slides failed. They are listed in out/failures.csv."
    assert [line.split()[1] for line in said[:-1]] == ["a:", "b:", "c:", "d:", "e:", "f:", "g:"]
    assert reported() == ["a", "g"]
    assert [finding["choice"] for line in lines() for finding in line["findings"][1:]] == ["yes", "no"]
    kinds = [(row["slide"], row["type"]) for row in failures()]
    assert kinds == [
        ("b", "SlideError"),
        ("c", "SlideError"),
        ("d", "MppError"),
        ("e", "NoTissue"),
        ("f", "ZeroDivisionError"),
    ]
    assert failures()[4]["error"] == "bug: with [secret] (see f/error.txt)"
    assert "line" in Path("out/f/error.txt").read_text()
    assert "not-for-anybodys-eyes" not in "".join(
        path.read_text() for path in Path("out").rglob("*") if path.suffix in (".txt", ".csv", ".html")
    )
    assert not Path("out/e").exists()
    index = Path("out/index.html").read_text()
    assert "2 slides reported, 5 failed" in index
    assert all(row["error"].split("(")[0] in index for row in failures() if "'" not in row["error"])
    monkeypatch.setattr(batch_slide, "_answered", answer)
    assert giant("report", slides, "--out", "out", "--max-steps", "4", "--resume").exit_code == 1
    assert reported() == ["a", "f", "g"]
    assert not Path("out/f/error.txt").exists()


def test_every_sentence_says_where_it_comes_from() -> None:
    run(dab(Path("a.png"), 0.9), dab(Path("b.png"), 0.1))
    for line in lines():
        folder = Path("out") / line["slide"]
        assert json.loads((folder / "report.json").read_text()) == {
            key: value for key, value in line.items() if key != "path"
        }
        sections = {section["name"]: section["sentences"] for section in line["sections"]}
        assert list(sections) == [
            *("specimen", "microscopic description", "diagnosis"),
            *("grade", "ancillary findings", "limits"),
        ]
        for sentence in (one for part in sections.values() for one in part):
            for cited in sentence["evidence"]:
                trace = (folder / cited["run"] / "trace.jsonl").read_text().splitlines()
                seen = json.loads(trace[cited["step"] - 1])["observation"]
                assert cited["box"] == seen["box"]
                assert cited["mpp"] == seen["mpp"]
                assert (folder / cited["image"]).is_file()
                assert (
                    f'href="{cited["run"]}/report.html#step-{cited["step"]}"'
                    in (folder / "report.html").read_text()
                )
        assert sections["microscopic description"][0]["evidence"]
        assert sections["diagnosis"][0]["evidence"]
    first, second = lines()
    assert first["sections"][2]["sentences"][0]["text"] == "Yes."
    absence = second["sections"][2]["sentences"][0]
    assert absence["text"] == "No tumour was found."
    assert re.search(r"\d %", absence["seen"])
    assert first["sections"][0]["sentences"][0]["text"].startswith("The scan measures 1.4 mm × 1 mm")
    assert first["sections"][3]["sentences"][0]["abstained"]
    assert "Diagnosis: Yes." in first["report"]


def test_one_worker_and_two_leave_the_same_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slides = [dab(Path(f"{name}.png"), share) for name, share in (("a", 0.9), ("b", 0.1), ("c", 0.5))]
    monkeypatch.setattr(batch, "report_slide", jobs.painted)
    kept = []
    for count in (1, 2):
        monkeypatch.setenv("GIANT_CACHE", str(tmp_path / f"cache{count}"))
        assert run(*slides, model="mini", questions=jobs.SHORT, workers=count) == (3, 0)
        kept.append(snapshot(Path("out")))
        Path("out").rename(f"out{count}")
    assert kept[0].keys() == kept[1].keys()
    assert [name for name in kept[0] if kept[0][name] != kept[1][name]] == []
    assert len(kept[0]) > 40


def snapshot(folder: Path) -> dict[str, object]:
    """Every file without what may differ: seconds, run ids, hashes over these, pages that print them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            differ = ("seconds", "id", "sha256", "sealed", "run_dir")
            return {key: plain(item) for key, item in value.items() if key not in differ}
        return [plain(item) for item in value] if isinstance(value, list) else value

    found: dict[str, object] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if "checkpoint" in name or re.search(r"(description|tumour)/report", name):
            continue
        if path.suffix in (".json", ".jsonl") and not name.startswith("before-"):
            texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[name] = [plain(json.loads(text)) for text in texts]
        else:
            found[name] = path.read_bytes()
    return found


def test_a_worker_that_is_killed_costs_one_slide_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "killer-once", "killer-always", "z")
    slides = [dab(Path(f"{name}.png"), 0.9) for name in names]
    monkeypatch.setattr(batch, "report_slide", jobs.painted)
    watched = jobs.Watched()
    assert run(*slides, model="mini", questions=jobs.SHORT, workers=2, watch=watched) == (3, 1)
    assert reported() == ["a", "killer-once", "z"]
    assert [(row["slide"], row["type"]) for row in failures()] == [("killer-always", "WorkerLost")]
    assert "SIGKILL" in failures()[0]["error"]
    assert sorted(watched.ends) == sorted(names)
    assert watched.told.count(("started", "killer-once")) == 2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions asked from now on, as slide/question."""
    from agent.session import ask as session

    questions, ask_with = list[str](), session.ask_with

    def noting(slide: Any, question: str, options: Any) -> Any:
        questions.append(f"{slide.name}/{options.out.name}")
        return ask_with(slide, question, options)

    monkeypatch.setattr(session, "ask_with", noting)
    return questions


def test_resume_skips_what_is_complete(asked: list[str]) -> None:
    dab(Path("a.png"), 0.9)
    dab(Path("b.png"), 0.9)
    run("a.png")
    before = Path("out/a/manifest.json").stat().st_mtime_ns
    with pytest.raises(RunError, match="--resume"):
        run("a.png", "b.png")
    asked.clear()
    watched = jobs.Watched()
    assert run("a.png", "b.png", resume=True, watch=watched) == (2, 0)
    assert asked == ["b/description", "b/tumour"]
    assert ("ended", "a", "complete already") in watched.told
    assert reported() == ["a", "b"]
    assert Path("out/a/manifest.json").stat().st_mtime_ns == before


def change(path: str) -> Callable[[], object]:
    def changed() -> None:
        file = Path("out/a") / path
        file.write_bytes(file.read_bytes().replace(b"purple", b"violet", 1) + b" ")

    return changed


DAMAGES: dict[str, Callable[[], object]] = {
    "report": change("report.json"),
    "thumbnail": change("thumbnail.jpg"),
    "answer of a run": change("tumour/answer.json"),
    "missing page": lambda: Path("out/a/report.md").unlink(),
    "missing image": lambda: next(Path("out/a/tumour/regions").iterdir()).unlink(),
    "manifest cut short": lambda: Path("out/a/manifest.json").write_text('{"version": 1, "gia'),
    "no record of its beginning": lambda: Path("out/a/begun.json").unlink(),
}
OF_A_RUN = {"answer of a run", "missing image", "no record of its beginning"}
"""Damages for which a run is made anew; for the others it is read again."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_changed_is_done_again(damage: str, asked: list[str]) -> None:
    run(dab(Path("a.png"), 0.9))
    before = snapshot(Path("out/a"))
    DAMAGES[damage]()
    asked.clear()
    assert run("a.png", resume=True) == (1, 0)
    assert asked == ["a/description", "a/tumour"]
    after = snapshot(Path("out/a"))
    assert {name: after[name] for name in before} == before
    aside = {name.split("/")[1] for name in after if name.startswith("before-1/")}
    assert ("tumour" in aside) == (damage in OF_A_RUN)
    assert ("description" in aside) == (damage == "no record of its beginning")
    assert run("a.png", resume=True) == (1, 0)
    assert asked == ["a/description", "a/tumour"]


@pytest.mark.parametrize(
    "other",
    [{"seed": 7}, {"max_steps": 5}, {"mpp": 2.5}, {"questions": jobs.SHORT[:1]}],
    ids=["seed", "budget", "scale", "questions"],
)
def test_other_settings_are_never_mixed_in(other: dict[str, Any], asked: list[str]) -> None:
    run(dab(Path("a.png"), 0.9))
    asked.clear()
    assert run("a.png", resume=True, **other) == (1, 0)
    assert len(asked) == len(other.get("questions", jobs.SHORT))
    assert Path("out/a/before-1/tumour/answer.json").is_file()
    assert Path("out/a/before-1/manifest.json").is_file()
    assert Path("out/a/tumour").exists() == ("questions" not in other)
    asked.clear()
    assert run("a.png", resume=True, **other) == (1, 0)
    assert asked == []


@pytest.mark.parametrize("other", [{"max_cost": 0.5}, {"max_cost": 7.0}], ids=str)
def test_another_spending_limit_is_no_other_report(other: dict[str, Any], asked: list[str]) -> None:
    run(dab(Path("a.png"), 0.9), max_cost=1.0)
    asked.clear()
    assert run("a.png", resume=True, **other) == (1, 0)
    assert asked == []
    Path("out/a/manifest.json").unlink()  # and one that is not complete goes on
    assert run("a.png", resume=True, **other) == (1, 0)
    assert not Path("out/a/before-1").exists()


def test_a_slide_that_was_changed_is_done_again(asked: list[str]) -> None:
    run(dab(Path("a.png"), 0.9))
    dab(Path("a.png"), 0.1)
    assert run("a.png", resume=True) == (1, 0)
    assert lines()[0]["findings"][1]["choice"] == "no"
    assert Path("out/a/before-1/report.json").is_file()
    asked.clear()
    Path("a.png").touch()  # copied anew, say
    assert run("a.png", resume=True) == (1, 0)
    assert asked == []


def test_a_run_that_cannot_be_gone_on_with_is_set_aside() -> None:
    run(dab(Path("a.png"), 0.9))
    Path("out/a/manifest.json").unlink()
    Path("out/a/tumour/run.json").write_text("{")
    assert run("a.png", resume=True) == (1, 0)
    assert Path("out/a/before-1/tumour/run.json").read_text() == "{"
    assert json.loads(Path("out/a/tumour/run.json").read_text())["status"] == "finished"


def test_one_batch_at_a_time() -> None:
    dab(Path("a.png"), 0.9)
    with held(Path("out").absolute(), wait=False), pytest.raises(RunError, match="another process"):
        run("a.png")


def test_wrong_calls_are_one_line(tmp_path: Path) -> None:
    dab(Path("a.png"), 0.9)
    for options, said in (
        (["--workers", "0"], "0 workers cannot work"),
        (["--model", "nowhere"], "manifest.json: this file cannot be read"),
        (["--profile", "giant"], "--profile is for chat models"),
        (["--max-steps", "0"], "leaves nothing to look at"),
        (["--questions", "nowhere.json"], "nowhere.json: this file cannot be read"),
        (["--ray", "ray://somewhere"], "is no address of a Ray cluster"),
        (["--ray", "auto"], "auto: no Ray cluster answers at this address"),
        (["--model", "nobody:x"], "nobody"),
    ):
        result = giant("report", "a.png", "--out", "out", *options)
        assert said in one_line(result), options
        assert not list(Path("out").glob("a*"))


@pytest.mark.usefixtures("one_process")
def test_other_questions_can_be_asked(tmp_path: Path) -> None:
    asked = [
        {
            "name": "colour",
            "section": "ancillary findings",
            "question": "Which colour?",
            "options": ["purple", "pink"],
            "says": {"purple": "The tissue is purple."},
        }
    ]
    Path("questions.json").write_text(json.dumps(asked))
    dab(Path("a.png"), 0.9)
    result = giant("report", "a.png", "--out", "out", "--mpp", "2", "--questions", "questions.json")
    assert result.exit_code == 0, result.output
    assert result.stdout == "out/index.html\n"
    sections = {section["name"]: section["sentences"] for section in lines()[0]["sections"]}
    assert sections["ancillary findings"][0]["text"] == "The tissue is purple."
    assert sections["diagnosis"][0]["abstained"]


def test_slides_with_one_name_get_two_folders(tmp_path: Path) -> None:
    names = folder_names([tmp_path / "x" / "a.svs", tmp_path / "y" / "a.svs", tmp_path / "b.svs"])
    found = list(names.values())
    assert len(set(found)) == 3
    assert found[2] == "b"
    assert all(name.startswith("a-") for name in found[:2])


def test_slides_of_a_folder_are_those_with_a_slide_suffix(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    (folder / "inner").mkdir(parents=True)
    for name in ("b.SVS", "a.tiff", "notes.txt", ".hidden.svs", "inner/c.svs"):
        (folder / name).touch()
    found = find_slides([str(folder), str(folder / "a.tiff"), "elsewhere.svs"])
    assert [path.name for path in found.paths] == ["a.tiff", "b.SVS", "c.svs", "elsewhere.svs"]
    assert [item.path.name for item in found.skipped] == ["notes.txt"]


def test_a_folder_without_slides_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no slides"):
        find_slides([str(tmp_path / "none")])
