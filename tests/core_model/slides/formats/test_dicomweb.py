"""Slides on a DICOMweb server: what is read, what is never asked for, and what is said when it fails."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import format_files as formats
import multi_files as many
import numpy as np
import pytest
from dicomweb_server import DicomWebServer
from slide_files import stained

from core_model.errors import RegionUnreadable, SlideError
from core_model.slides.box import Box
from core_model.slides.discover import slides_under
from core_model.slides.formats import dicomweb
from core_model.slides.slide import open_slide

RGB = stained(512, 512)
SECRET = "s3cret-t0ken"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    many.write_dicom(tmp_path / "series", RGB)
    return tmp_path / "series"


@pytest.mark.parametrize("syntaxes", [True, False], ids=["syntaxes told", "syntaxes tried"])
def test_a_series_reads_as_its_files_do(syntaxes: bool, series: Path) -> None:
    with DicomWebServer(series, syntaxes=syntaxes) as server, open_slide(server.url) as slide:
        with open_slide(series) as local:
            assert (slide.level_dimensions, slide.mpp) == (local.level_dimensions, local.mpp)
            for box, mpp in ((local.box, 0.5), (Box(100, 50, 333, 222), 0.5), (local.box, 1.0)):
                apart = np.asarray(slide.read(box, mpp)).astype(int) - np.asarray(local.read(box, mpp))
                assert np.abs(apart).max() <= 2
        assert (slide.vendor, slide.reader) == ("dicom", slide.reader)
        assert slide.name == server.series


@pytest.mark.parametrize("syntaxes", [True, False], ids=["syntaxes told", "syntaxes tried"])
def test_no_pixel_of_a_label_leaves_the_server(syntaxes: bool, series: Path) -> None:
    labels = [f"{many.ROOT}.1.{number}" for number in (3, 4)]
    with DicomWebServer(series, syntaxes=syntaxes) as server, open_slide(server.url) as slide:
        slide.overview(256)
    assert any("/frames/" in path for path in server.asked)
    assert not [
        path for path in server.asked if "/frames/" in path and any(f"/{uid}/" in path for uid in labels)
    ]


def test_the_identity_is_that_of_the_series_and_not_of_the_server(series: Path, tmp_path: Path) -> None:
    def id_of(folder: Path) -> str:
        with DicomWebServer(folder) as server, open_slide(server.url) as slide:
            return slide.id

    many.write_dicom(tmp_path / "other", RGB, series=2)
    many.write_dicom(tmp_path / "smaller", RGB[:256])
    assert id_of(series) == id_of(series)
    assert len({id_of(folder) for folder in (series, tmp_path / "other", tmp_path / "smaller")}) == 3


def test_a_token_is_sent_and_shown_nowhere(
    series: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="core_model")
    with DicomWebServer(series, token=SECRET) as server:
        with pytest.raises(SlideError, match=rf"does not let us in \(401\).*{dicomweb.TOKEN}"):
            open_slide(server.url)
        monkeypatch.setenv(dicomweb.TOKEN, SECRET)
        with open_slide(server.url) as slide:
            assert slide.width == 512
            assert SECRET not in f"{slide!r} {vars(slide)}"
        monkeypatch.setenv(dicomweb.TOKEN, SECRET + "-old")
        with pytest.raises(SlideError) as caught:
            open_slide(server.url)
    said = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert SECRET not in said


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "schlüssel"])
def test_a_token_that_cannot_be_sent_is_one_line_without_it(
    token: str, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dicomweb.TOKEN, token)
    with DicomWebServer(series) as server, pytest.raises(SlideError, match="no token has") as caught:
        open_slide(server.url)
    assert token not in str(caught.value)


@pytest.mark.parametrize(("status", "says"), [(404, "no such series"), (403, "let us in"), (500, "an error")])
def test_refusals_are_one_line(status: int, says: str, series: Path) -> None:
    with DicomWebServer(series, refuse=lambda path: status) as server, pytest.raises(SlideError) as caught:
        open_slide(server.url)
    assert says in str(caught.value)
    assert f"({status})" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_gone_or_silent_is_told(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(dicomweb, "SECONDS", (0.2, 0.1))
    monkeypatch.setattr(dicomweb, "WAIT_MS", 1)
    with DicomWebServer(series) as server:
        url = server.url
    with pytest.raises(SlideError, match="cannot be reached"):
        open_slide(url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/studies/1.2/series/3.4"
        with pytest.raises(SlideError, match=r"did not answer within 0\.1 s"):
            open_slide(address)


@pytest.mark.parametrize("damage", ["missing", "cut", "zeros"])
def test_a_frame_that_is_missing_or_damaged_does_not_decode(damage: str, series: Path) -> None:
    first = sorted(series.iterdir())[0]
    changes = {"cut": lambda frame: frame[: len(frame) // 2], "zeros": lambda frame: bytes(len(frame))}
    if damage in changes:
        formats.change_frames(first, lambda frames: [*frames[:5], changes[damage](frames[5]), *frames[6:]])
    lost = f"{many.ROOT}.1.1/frames/6"
    with (
        DicomWebServer(
            series, refuse=lambda path: 404 if damage == "missing" and lost in path else None
        ) as server,
        open_slide(server.url) as slide,
    ):
        with pytest.raises(RegionUnreadable) as caught:
            slide.read(Box(140, 140, 50, 50), 0.5)
        assert "127.0.0.1" not in str(caught.value), "it goes to models"
        assert slide.read(Box(300, 300, 50, 50), 0.5).size == (50, 50)


@pytest.mark.parametrize(
    "address",
    [
        "https://server/dicomweb", "https://server/dicomweb/studies/1.2", "https://server/studies/a/series/3.4",
        "https://server/studies/1.2/series/3.4?token=x", "https:///studies/1.2/series/3.4",
        "https://me:s3cret-t0ken@server/studies/1.2/series/3.4", "https://me:s3cret-t0ken@server/x",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_series_is_refused_without_asking_anybody(address: str) -> None:
    with pytest.raises(SlideError) as caught:
        open_slide(address)
    assert SECRET not in str(caught.value)


def test_a_token_is_not_sent_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dicomweb.TOKEN, SECRET)
    with pytest.raises(SlideError, match="not sent over http") as caught:
        open_slide("http://server.example/studies/1.2/series/3.4")
    assert SECRET not in str(caught.value)


def test_an_address_is_one_slide(series: Path) -> None:
    """`report`, `index` and `doctor` look for slides under what they are given."""
    with DicomWebServer(series) as server:
        (path,) = slides_under([server.url]).paths
        with open_slide(path, isolate=True) as slide:
            assert slide.width == 512
