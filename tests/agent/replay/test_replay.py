"""A finished run is followed again to the same bytes, and whatever was changed in it is named."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import numpy as np
import pytest
from painted_slides import ColourModel, paint
from PIL import Image
from slide_files import stained, write_svs
from typer.testing import CliRunner

import agent
from agent.cli.app import build_app
from agent.graph.control import Control, Said
from agent.replay import regions
from agent.replay.follow import FILES, follow_again
from agent.run.journal import seal
from agent.run.records import Answer
from agent.session.models import described
from core_model.errors import RunError
from core_model.slides.box import Box
from core_model.slides.slide import open_slide

OPTIONS = ["grey tissue", "pink tissue"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run(slide: Path, out: Path, question: str = "Which tissue is it?", **given: Any) -> Answer:
    given = {"options": OPTIONS, "model": ColourModel(sharpness=0.3), "mpp": 2.0, "max_steps": 8} | given
    return agent.ask(slide, question, out=out, **given)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a slide and a finished run, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIANT_CACHE", str(folder / "cache"))
        run(paint(folder / "slide.png", 0.7), folder / "run")
    return folder


@pytest.fixture
def slide(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made / "slide.png", tmp_path / "slide.png"))


@pytest.fixture
def finished(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def assert_same(folder: Path, slide: Path | None = None) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = follow_again(folder, slide)
    assert found.ok, found.first_fault
    assert [file.file for file in found.files] == list(FILES)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    if slide is not None:
        for part in found.votes or [found]:
            assert part.equal == part.regions
            assert part.regions


def test_a_run_replays_without_slide_and_model_and_its_regions_are_those_of_the_slide(
    finished: Path, slide: Path
) -> None:
    assert_same(finished, slide)
    slide.unlink()
    assert_same(finished)


def test_a_run_that_was_moved_replays(finished: Path, slide: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    finished.rename(moved)
    assert_same(moved, slide)


@pytest.mark.parametrize(
    "given",
    [
        {"options": None},
        {"mode": "slide"},
        {"max_steps": 1},
        {"model": ColourModel(slide_unfamiliarity=3.0)},
        {"model": ColourModel(abstain_below=0.99)},
    ],
)
def test_every_kind_of_run_replays(slide: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    run(slide, tmp_path / "run", **given)
    assert_same(tmp_path / "run", slide)


def test_a_run_with_tiles_that_do_not_decode_replays(shared: Path, tmp_path: Path) -> None:
    slide = shared / "data" / "malformed" / "cmu-1-small-region_corrupt_tiles.svs"
    run(slide, tmp_path / "run", mpp=None)
    assert_same(tmp_path / "run", slide)


def test_votes_replay_one_by_one_and_as_a_whole(slide: Path, tmp_path: Path) -> None:
    run(slide, tmp_path / "run", votes=3, max_steps=3)
    found = follow_again(tmp_path / "run")
    assert [vote.run for vote in found.votes] == ["votes/1", "votes/2", "votes/3"]
    assert_same(tmp_path / "run", slide)
    image = next((tmp_path / "run" / "votes" / "2" / "regions").iterdir())
    image.write_bytes(image.read_bytes() + b"x")
    assert "votes/2: step" in follow_again(tmp_path / "run").first_fault


def test_a_run_with_a_persons_words_replays(slide: Path, tmp_path: Path) -> None:
    said = iter(
        [Said(do="accept"), Said(do="look", box=Box(200, 200, 300, 300)), Said(do="hint", text="left")]
    )
    control = Control(lambda action, step: next(said, Said(do="accept")))
    control.redirect(Said(do="hint", text="Look well."))
    run(slide, tmp_path / "run", control=control)
    assert any((tmp_path / "run" / "journal").glob("confirm-*"))
    assert_same(tmp_path / "run", slide)


def test_a_run_redirected_halfway_replays(slide: Path, tmp_path: Path) -> None:
    """Nobody confirms: what is said later is heard at the same decision again."""
    control = Control()
    for item in agent.stream(
        slide, "Which tissue?", options=OPTIONS, model=ColourModel(sharpness=0.3), mpp=2.0, max_steps=8,
        out=tmp_path / "run", control=control,
    ):  # fmt: skip
        if not isinstance(item, Answer) and getattr(item, "index", 0) == 3:
            control.redirect(Said(do="look", box=Box(200, 200, 300, 300)))
    trace = (tmp_path / "run" / "trace.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in trace if '"by":"person"' in line] in ([4], [5])
    assert_same(tmp_path / "run")


# ---- what was changed is named ----


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def faults(folder: Path) -> str:
    found = follow_again(folder)
    assert not found.ok
    told = [f"{file.file}: {file.differs}" for file in found.files if file.differs]
    return "\n".join([*found.problems, *told])


def test_a_changed_answer_is_named_with_the_place(finished: Path) -> None:
    change(finished / "answer.json", '"confidence": 0.', '"confidence": 0.9')
    told = faults(finished)
    assert "answer.json was changed after the run was finished" in told
    assert "answer.json: line" in told
    assert '"confidence": 0.9' in told


def test_a_changed_measure_is_named_though_it_cannot_be_measured_again(finished: Path) -> None:
    change(finished / "answer.json", '"seconds": ', '"seconds": 1')
    assert "answer.json was changed" in faults(finished)


@pytest.mark.parametrize("name", ["report.html", "report.md", "evidence.geojson"])
def test_a_changed_or_missing_page_is_named(finished: Path, name: str) -> None:
    change(finished / name, "step", "stop")
    assert f"{name}: line" in faults(finished)
    (finished / name).unlink()
    assert f"{name}: it is missing" in faults(finished)


def test_a_changed_region_is_named(finished: Path) -> None:
    image = sorted((finished / "regions").glob("zoom-*.jpg"))[0]
    image.write_bytes(image.read_bytes()[:-1] + b"\x00")
    assert f"regions/{image.name} was changed after it was shown" in faults(finished)
    image.unlink()
    assert f"regions/{image.name} is not in the run folder" in faults(finished)


def test_a_changed_observation_is_named(finished: Path) -> None:
    change(finished / "trace.jsonl", "Tissue covers", "Tumour covers")
    assert "trace.jsonl line 1 was changed" in faults(finished)


def test_another_path_through_the_slide_is_named(finished: Path) -> None:
    lines = (finished / "trace.jsonl").read_text().splitlines()
    (finished / "trace.jsonl").write_text("\n".join([*lines[:3], lines[4], lines[3], *lines[5:]]) + "\n")
    told = faults(finished)
    assert "trace.jsonl line 4 was changed" in told
    change(finished / "trace.jsonl", '"k":64', '"k":63')
    assert "step 3 was retrieve with" in faults(finished)


def test_journal_entries_removed_changed_or_added_are_named(finished: Path) -> None:
    kept = finished / "journal" / "tissue-mask.json"
    whole = kept.read_text()
    kept.unlink()
    assert "journal/tissue-mask.json is missing" in faults(finished)
    kept.write_text(whole.replace('"version"', '"Version"'))
    assert "journal/tissue-mask.json was changed" in faults(finished)
    kept.write_text(whole)
    (finished / "journal" / "person-0001-001.json").write_text('{"value": {"do": "stop"}}')
    told = faults(finished)
    assert "journal/person-0001-001.json was not there" in told
    assert "followed again the run takes" in told


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"question": "Which', '"question": "What'),
        ('"width": 1500', '"width": 1501'),
        ('"seed": 0', '"seed": 9'),
    ],
)
def test_a_changed_record_is_named(finished: Path, old: str, new: str) -> None:
    change(finished / "run.json", old, new)
    assert faults(finished)


def test_another_slide_is_refused_and_changed_pixels_are_named(finished: Path, slide: Path) -> None:
    other = paint(slide.with_name("other.png"), 0.2)
    with pytest.raises(RunError, match="is another slide: its identity"):
        follow_again(finished, other)
    trace = finished / "trace.jsonl"
    line = json.loads(trace.read_text().splitlines()[0])
    change(trace, line["observation"]["pixels_sha256"], "0" * 64)
    found = follow_again(finished, slide)
    assert found.regions is not None
    assert found.equal == found.regions - 1
    assert found.changed == [
        "step 1, box (0, 0, 1500, 1000): its pixels are not those that were shown",
    ]


def test_a_record_that_contradicts_itself_is_no_traceback(finished: Path) -> None:
    rng = np.random.default_rng(3)
    names = sorted(path for path in finished.rglob("*.json*") if path.is_file())
    whole = {path: path.read_bytes() for path in names}
    for path in names:
        for _ in range(6):
            data = bytearray(whole[path])
            data[int(rng.integers(len(data)))] = int(rng.integers(32, 127))
            path.write_bytes(bytes(data))
            with suppress(RunError):  # where run, trace or answer cannot be read at all
                assert bytes(data) == whole[path] or not follow_again(finished).ok, path
        path.write_bytes(whole[path])
    assert follow_again(finished).ok


# ---- the command ----


def call(*args: Any) -> Any:
    return CliRunner().invoke(build_app(), ["replay", *map(str, args)])


def test_the_command_says_same_for_each_file_and_counts_regions(finished: Path, slide: Path) -> None:
    done = call(finished, "--slide", slide)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines[:-1]] == [[name, "same"] for name in FILES]
    shown = len(list((finished / "regions").iterdir()))
    assert lines[-1].endswith("regions have the pixels of the slide")
    assert lines[-1].split()[0] == lines[-1].split()[2]
    assert shown
    found = json.loads(call(finished, "--json").stdout)
    assert found["ok"]
    assert found["regions"] is None


def test_the_command_ends_with_1_and_one_line_where_anything_differs(finished: Path) -> None:
    change(finished / "report.md", "#", "##")
    done = call(finished)
    assert done.exit_code == 1
    assert "report.md: line 1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not json.loads(call(finished, "--json").stdout)["ok"]


def test_what_is_no_finished_run_is_refused(finished: Path, tmp_path: Path) -> None:
    assert call(tmp_path / "nothing").exit_code == 1
    change(finished / "run.json", '"finished"', '"running"')
    done = call(finished)
    assert done.exit_code == 1
    assert "--resume" in done.stderr
    shutil.rmtree(finished / "journal")
    assert call(finished).exit_code == 1


def test_the_fake_toolbox_keeps_hashes_too(tmp_path: Path) -> None:
    """Runs over the fakes replay as others do: their images are hashed as they are kept."""
    box = fakes.FakeToolbox(fakes.fake_slide(), fakes.FakeModel(), tmp_path)
    seen = box.call("overview", {})
    with Image.open(tmp_path / str(seen.image)) as image:
        assert image.size == (8, 8)
    assert seen.image_sha256


def test_a_run_that_was_paused_and_resumed_replays(slide: Path, tmp_path: Path) -> None:
    control = Control()
    given: dict[str, Any] = {"options": None, "model": ColourModel(sharpness=0.3), "mpp": 2.0, "max_steps": 8}
    for item in agent.stream(slide, "Which?", out=tmp_path / "run", control=control, **given):
        if getattr(item, "index", 0) == 4:
            control.pause()
    assert not (tmp_path / "run" / "answer.json").exists()
    agent.ask(slide, "Which?", out=tmp_path / "run", resume=True, **given)
    assert list((tmp_path / "run" / "journal").glob("scores-*")), "the model scored its own answers"
    assert_same(tmp_path / "run", slide)


def as_if_made_before(folder: Path) -> None:
    """Let the run be one of an older version, which said the same things in other words."""
    answer = json.loads((folder / "answer.json").read_text())
    answer["answer"] = f"In older words: {answer['answer']}"
    answer["evidence"][0]["finding"] = "An older finding."
    (folder / "answer.json").write_text(json.dumps(answer, indent=2))
    (folder / "report.md").write_text("An older page.")
    seal_again(folder, giant="0.0.9")


def seal_again(folder: Path, **fields: Any) -> None:
    record = json.loads((folder / "run.json").read_text()) | {"sealed": seal(folder)} | fields
    (folder / "run.json").write_text(json.dumps(record, indent=2))


def test_a_run_of_another_version_is_compared_by_its_facts(finished: Path, slide: Path) -> None:
    as_if_made_before(finished)
    outcome = follow_again(finished, slide)
    assert outcome.ok, outcome
    reworded = {file.file for file in outcome.files if file.reworded}
    assert reworded == {"run.json", "answer.json", "report.html", "report.md"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("answer.json", '"choice": "grey tissue"', '"choice": "pink tissue"'),
        ("answer.json", '"abstained": false', '"abstained": true'),
        ("trace.jsonl", '"tool":"overview"', '"tool":"zoom"'),
        ("evidence.geojson", '"model": "fake"', '"model": "other"'),
    ],
)
def test_a_changed_fact_in_a_run_of_another_version_is_named(
    finished: Path, file: str, old: str, new: str
) -> None:
    as_if_made_before(finished)
    change(finished / file, old, new)
    seal_again(finished)
    outcome = follow_again(finished)
    assert not outcome.ok
    assert "the run was made by giant 0.0.9" in " ".join(outcome.problems)


def test_a_run_of_an_earlier_version_knows_its_slide_by_the_id_of_then(tmp_path: Path) -> None:
    with open_slide(write_svs(tmp_path / "a.svs", stained(256, 256), levels=1)) as slide:
        assert slide.quickhash is not None
        assert slide.quickhash != slide.id
        record = described(slide)
        for identity in (slide.id, slide.quickhash):
            regions._check(slide, record.model_copy(update={"id": identity}), slide.path)
        with pytest.raises(RunError, match="its identity"):
            regions._check(slide, record.model_copy(update={"id": "other"}), slide.path)


def test_a_run_that_knows_neither_reader_nor_source_of_the_scale_replays(finished: Path, slide: Path) -> None:
    answer = json.loads((finished / "answer.json").read_text())
    del answer["slide"]["mpp_source"]
    (finished / "answer.json").write_text(json.dumps(answer, indent=2))
    facts = json.loads((finished / "run.json").read_text())["slide"]
    assert facts.pop("reader").startswith("Pillow")
    assert (facts.pop("mpp_x"), facts.pop("mpp_y")) == (None, None)
    seal_again(finished, giant="0.2.9", slide=facts)
    outcome = follow_again(finished, slide)
    assert outcome.ok, outcome.first_fault


def test_a_run_on_oblong_pixels_replays_with_its_regions(tmp_path: Path) -> None:
    import tifffile

    path, side = tmp_path / "oblong.tiff", (2.0, 2.6)
    tifffile.imwrite(
        path, np.asarray(Image.open(paint(tmp_path / "square.png", 0.7))), tile=(256, 256), photometric="rgb",
        compression="deflate", metadata=None, resolution=tuple(10000 / um for um in side),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    answer = run(path, tmp_path / "run", mpp=None)
    assert (answer.slide.mpp_source, answer.slide.mpp) == ("property", pytest.approx(5.2**0.5))
    assert "not square" in answer.slide.warnings[0]
    record = json.loads((tmp_path / "run" / "run.json").read_text())["slide"]
    assert (record["mpp_x"], record["mpp_y"]) == pytest.approx(side)
    assert_same(tmp_path / "run", path)
