"""Under --pseudonymise no byte of what is left names a slide's file or folder; the key file alone does."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import multi_files as many
import pytest
from chat_server import ChatServer
from cli_fakes import PaintEncoder, PaintModel, giant
from planted import NEEDLES, script
from slide_files import stained, write_svs

from agent.batch import batch
from agent.batch import plan as batch_plan
from agent.batch.workers import in_this_process
from core_model.errors import RunError, SlideError, UsageError
from core_model.models import tile_encoders
from core_model.privacy.key import claim_folder, open_key, read_key
from core_model.slides.renamed import Alias
from core_model.slides.slide import open_slide

RGB = stained(512, 512)
HIDE = ("--pseudonymise", "--key", "home/names.key")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where we work is named after the patient too."""
    folder = tmp_path / many.PLANTED
    folder.mkdir()
    monkeypatch.setenv("GIANT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef0123456789abcdef")
    monkeypatch.chdir(folder)
    (folder / "home").mkdir()
    monkeypatch.setattr(batch_plan, "_from_disk", lambda model: PaintModel())
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    monkeypatch.setattr(batch, "in_processes", lambda work, jobs, count: in_this_process(work, jobs))


def write_planted(root: Path) -> int:
    """A slide of each format whose files and folders name a patient; returns how many can be read."""
    patient = root / many.PLANTED
    many.write_vms(patient / "vms", RGB, name=many.PLANTED, mpp=2.0)
    many.write_mirax(patient / "mirax", RGB, name=f"{many.PLANTED} B", mpp=2.0)
    many.write_dicom(root / "dicom" / many.PATIENT, RGB, mpp=2.0)
    svs = write_svs(patient / f"{many.PATIENT} 1951.svs", RGB, mpp=2.0, levels=1, power=40)
    content = svs.read_bytes()
    svs.write_bytes(content.replace(b"|AppMag = 40", b"|User=Erika "))  # of the same length
    (patient / f"{many.PLANTED}.svs").write_text("no slide")
    many.label().save(patient / f"{many.PLANTED}_macro.jpg")
    return 4


def leaks(*folders: str) -> list[str]:
    """Files below the folders that name the patient: in their bytes, as any text, or in their own names."""
    found = []
    for path in (path for folder in folders for path in Path(folder).rglob("*")):
        data = path.read_bytes().lower() if path.is_file() else b""
        for needle in (needle.lower() for needle in NEEDLES):
            forms = [needle.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
            if needle in str(path).lower() or any(form in data for form in forms):
                found.append(f"{path}: {needle}")
    return found


def report(*more: object, slides: str = "slides", **named: Any) -> Any:
    with ChatServer(script) as server:
        where = ("--model", "openai:scripted", "--base-url", server.url, "--out", "out")
        return giant("report", slides, *where, *more, **named)


def test_a_batch_names_no_patient_anywhere(tmp_path: Path) -> None:
    count = write_planted(Path.cwd() / "slides")
    result = report(*HIDE)
    assert result.exit_code == 1, result.output
    assert f"1 of {count + 1} slides failed" in result.stderr
    assert not leaks("out", "cache")
    assert not [needle for needle in NEEDLES if needle.lower() in result.output.lower()]
    lines = [json.loads(line) for line in Path("out/reports.jsonl").read_text().splitlines()]
    assert len({line["slide"] for line in lines}) == count
    assert all(line["path"] == line["slide"] for line in lines)
    (row,) = csv.DictReader(Path("out/failures.csv").read_text().splitlines())
    assert row["path"] == row["slide"]
    assert row["slide"] in row["error"]
    runs = [json.loads(path.read_text()) for path in Path("out").glob("*/*/run.json")]
    assert {run["slide"]["name"] for run in runs} == {line["slide"] for line in lines}
    assert all(Path("out", line["slide"], "report.html").is_file() for line in lines)
    known = {known.id: known.path for known in read_key(Path("home/names.key")).known}
    assert set(known) == {line["slide"] for line in lines} | {row["slide"]}
    assert all(Path(path).exists() for path in known.values()), "the user finds the slides again"
    assert Path("home/names.key").stat().st_mode & 0o777 == 0o600


def index(*more: object) -> Any:
    return giant("index", "slides", "--out", "store", "--quiet", *more)


def test_an_index_names_no_patient_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: PaintEncoder())
    count = write_planted(Path.cwd() / "slides")
    result = index(*HIDE)
    assert result.exit_code == 1, result.output
    assert f"1 of {count + 1} slides failed" in result.stderr
    assert not leaks("store", "cache")
    said = result.output.replace(str(Path.cwd()), "").lower()  # where the index lies is the user's word
    assert not [needle for needle in NEEDLES if needle.lower() in said]
    names = {path.name.removesuffix(".h5") for path in Path("store").rglob("*.h5")}
    assert len(names) == count
    known = {known.id: known.path for known in read_key(Path("home/names.key")).known}
    assert names < set(known)
    box = ("--box", 100, 100, 200, 200)
    query = next(name for name, path in known.items() if path.endswith(" 1951.svs"))
    found = giant("similar", known[query], *box, "--in", "store", "--json", "-k", 100)
    assert found.exit_code == 0, found.output
    assert {hit["slide"] for hit in json.loads(found.stdout)["hits"]} >= names - {query}
    assert not leaks("store"), "asking leaves the slide's own name in the cache alone"
    again = index(*HIDE)
    assert sorted(again.stdout.split()) == sorted(result.stdout.split())
    for wrong, why in (
        (("--pseudonymise", "--key", "home/other.key"), "made with another key"),
        ((), "the names in this folder are pseudonyms"),
    ):
        refused = index(*wrong)
        assert refused.exit_code == 1
        assert why in refused.stderr
    nowhere = giant("index", "slides", *HIDE)
    assert nowhere.exit_code == 2
    assert "Give --out" in nowhere.stderr


def test_a_bug_over_an_index_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(PaintEncoder):
        def encode(self, images: list[Any]) -> Any:
            raise ValueError(f"{Path.cwd()}/slides/{many.PLANTED}.svs is odd")

    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: Broken())
    (Path.cwd() / "slides").mkdir()
    write_svs(Path.cwd() / "slides" / f"{many.PLANTED}.svs", RGB, mpp=2.0, levels=1, power=5)
    result = index(*HIDE)
    assert "bug: ValueError" in result.stderr
    for needle in NEEDLES:
        assert needle.lower() not in (result.output + caplog.text).lower()


def test_a_batch_is_gone_on_with_under_the_same_names_and_by_its_key_alone(tmp_path: Path) -> None:
    (Path.cwd() / "slides").mkdir()
    write_svs(Path.cwd() / "slides" / "Erika.svs", RGB, mpp=2.0, levels=1, power=5)
    assert report(*HIDE).exit_code == 0
    first = sorted(path.name for path in Path("out").iterdir())
    shutil.move("slides", "moved")
    again = report(*HIDE, "--resume", slides="moved")
    assert again.exit_code == 0, again.output
    assert "complete already" in again.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == first
    for wrong, said in (
        (("--pseudonymise", "--key", "home/other.key"), "made with another key"),
        ((), "the names in this folder are pseudonyms"),
    ):
        refused = report(*wrong, "--resume", slides="moved")
        assert refused.exit_code == 1
        assert said in refused.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == first


def test_a_folder_of_real_names_takes_no_pseudonyms(tmp_path: Path) -> None:
    (Path.cwd() / "slides").mkdir()
    write_svs(Path.cwd() / "slides" / "Erika.svs", RGB, mpp=2.0, levels=1, power=5)
    assert report().exit_code == 0
    assert leaks("out"), "the search would find a name"
    refused = report(*HIDE, "--resume")
    assert refused.exit_code == 1
    assert "under their own names already" in refused.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--pseudonymise",), "needs a key file"),
        (("--key", "home/names.key"), "means nothing without --pseudonymise"),
        (("--pseudonymise", "--key", "out/names.key"), "lies in the output folder"),
        (("--pseudonymise", "--key", "slides/a.svs"), "no key file of giant"),
        (("--pseudonymise", "--key", "nowhere/names.key"), "cannot be made"),
    ],
)
def test_what_cannot_be_pseudonymised_is_refused_in_one_line(
    given: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (Path.cwd() / "slides").mkdir()
    write_svs(Path.cwd() / "slides" / "a.svs", RGB, mpp=2.0, levels=1, power=5)
    refused = report(*given)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())
    assert not Path("out").exists()


def test_copies_have_names_of_their_own_that_stay(tmp_path: Path) -> None:
    key = open_key(Path("home/names.key"), outside=Path.cwd() / "out")
    first = key.names([(Path("a.svs"), "one"), (Path("b.svs"), "one"), (Path("c.svs"), "two")])
    assert len(set(first.values())) == 3
    assert key.names([(Path("b.svs"), "one"), (Path("a.svs"), "one")]) == {
        Path("a.svs"): first[Path("a.svs")],
        Path("b.svs"): first[Path("b.svs")],
    }
    assert len(read_key(Path("home/names.key")).known) == 3
    other = open_key(Path("home/other.key"), outside=Path.cwd() / "out")
    assert set(other.names([(Path("a.svs"), "one")]).values()).isdisjoint(first.values())


def test_a_line_that_a_kill_cut_short_costs_nothing_but_itself(tmp_path: Path) -> None:
    key = open_key(Path("home/names.key"), outside=Path.cwd() / "out")
    first = key.names([(Path("a.svs"), "one")])
    with Path("home/names.key").open("a") as file:
        file.write('{"id": "slide-0')
    again = open_key(Path("home/names.key"), outside=Path.cwd() / "out")
    again.names([(Path("b.svs"), "two")])
    known = read_key(Path("home/names.key")).known
    assert [item.name for item in known] == ["a.svs", "b.svs"]
    assert known[0].id == first[Path("a.svs")]


def test_a_key_file_behind_a_link_into_the_output_is_refused(tmp_path: Path) -> None:
    (Path.cwd() / "out").mkdir()
    Path("link").symlink_to(Path.cwd() / "out")
    with pytest.raises(UsageError, match="lies in the output folder"):
        open_key(Path("link/names.key"), outside=Path.cwd() / "out")


def test_a_damaged_mark_is_no_leave_to_mix_names(tmp_path: Path) -> None:
    (Path.cwd() / "out").mkdir()
    (Path.cwd() / "out" / "pseudonyms.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        claim_folder(Path.cwd() / "out", None, used=True)


def test_errors_of_an_open_slide_say_its_alias_only(tmp_path: Path) -> None:
    folder = tmp_path / "S51" / many.PLANTED
    folder.mkdir(parents=True)
    path = write_svs(folder / f"{many.PLANTED}.svs", RGB, mpp=2.0, levels=1, power=5)
    slide = open_slide(path, name="slide-1")
    slide.close()
    with pytest.raises(SlideError) as caught:
        slide.read(slide.box, 2.0)
    assert "slide-1" in str(caught.value)
    path.write_text("no slide")
    with pytest.raises(SlideError) as again:
        open_slide(path, name="slide-1")
    for error in (caught.value, again.value):
        assert many.PLANTED not in f"{error} {error.what} {error.where} {error.fix} {error.args}"
        assert error.__suppress_context__
    assert many.PLANTED not in repr(slide)


def test_an_alias_stands_for_an_address() -> None:
    path = Path("https://host/dicomweb/studies/1.2.3/series/4.5.6")
    said = Alias(path, "S").text("https://host/dicomweb/studies/1.2.3/series/4.5.6: no answer from 1.2.3")
    assert said == "S: no answer from 1.2.3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{path}: it is broken", "S: it is broken"),
        ("{folder}/part.dat: it is broken", "S/part.dat: it is broken"),
        ("cannot read 'Mueller_1951.svs'", "cannot read 'S'"),
        ("Mueller_1951 is broken", "S is broken"),
        ("a Mueller_1951x is another", "a Mueller_1951x is another"),
        ("nothing of it", "nothing of it"),
    ],
)
def test_an_alias_stands_for_path_folder_and_name(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "Erika" / "Mueller_1951.svs"
    assert Alias(path, "S").text(text.format(path=path, folder=path.parent)) == said
