"""Every command on every kind of stream: ASCII, closed, full, a reader that went away, a plain terminal."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import PaintModel, paint

from agent.cli import app, doctor
from agent.cli.streams import printable

ROOT = Path(__file__).resolve().parents[3]
ESCAPE = "\x1b"


class Fault(io.RawIOBase):
    """A file that answers every write with an error."""

    def __init__(self, number: int) -> None:
        self.number = number

    def writable(self) -> bool:
        return True

    def write(self, _: Any) -> int:
        raise OSError(self.number, os.strerror(self.number))


class Terminal(io.TextIOWrapper):
    """A terminal as far as anybody can tell."""

    def isatty(self) -> bool:
        return True


@dataclass
class Ended:
    """How a command ended, and what arrived on its streams."""

    code: int
    out: str
    err: str


def text_to(raw: Any, encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(raw, encoding=encoding, write_through=True)


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `giant` in this process as `main` does, on streams of the test's choice."""
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    found = doctor.Check(name="transformers", status="warning", message="a µ in it", fix="pip install it")
    monkeypatch.setattr(doctor, "examine", lambda: [found])

    def giant(*args: object, out: Any = None, err: Any = None) -> Ended:
        kept = [stream if stream is not None else text_to(io.BytesIO()) for stream in (out, err)]
        monkeypatch.setattr("sys.argv", ["giant", *map(str, args)])
        monkeypatch.setattr("sys.stdout", None if out == "closed" else kept[0])
        monkeypatch.setattr("sys.stderr", None if err == "closed" else kept[1])
        with pytest.raises(SystemExit) as end:
            app.main()
        code = end.value.code
        return Ended(code if isinstance(code, int) else int(code is not None), *map(_text, kept))

    return giant


def _text(stream: Any) -> str:
    raw = getattr(stream, "buffer", None)
    return raw.getvalue().decode(stream.encoding) if isinstance(raw, io.BytesIO) else ""


def ask(folder: Path, name: str = "a.png", *more: str) -> tuple[str, ...]:
    slide = paint(folder / name)
    return (
        "ask",
        str(slide),
        "Which?",
        "--option",
        "purple",
        "--option",
        "pink",
        "--mpp",
        "2",
        "--max-steps",
        "2",
        *more,
    )


@pytest.fixture
def commands(tmp_path: Path, run: Run) -> dict[str, tuple[str, ...]]:
    """A call of each command that prints, with the inputs it needs."""
    asked = ask(tmp_path, "asked.png", "--out", "asked")
    assert run(*asked).code == 0
    Path("goldens").mkdir()
    return {
        "help": ("--help",),
        "doctor": ("doctor",),
        "doctor in JSON": ("doctor", "--json"),
        "ask": ask(tmp_path),
        "ask in JSON": (*ask(tmp_path, "j.png"), "--json"),
        "replay": ("replay", "asked"),
        "eval": ("eval", "--help"),
        "train": ("train", "all", "--help"),
        "bench": ("bench", "agent", "--help"),
    }


def test_a_stream_that_takes_nothing_changes_no_work(commands: dict[str, tuple[str, ...]], run: Run) -> None:
    for name, call in commands.items():
        full = run(*call, out=text_to(Fault(28)))
        assert full.code == 1, (name, full)
        assert full.err.splitlines()[-1].startswith(
            "giant: stdout takes no output (No space left on device"
        ), name
        assert "Traceback" not in full.err, name


def test_a_closed_stdout_is_told(commands: dict[str, tuple[str, ...]], run: Run) -> None:
    for name, call in commands.items():
        closed = run(*call, *(("--resume",) if call[0] == "ask" else ()), out="closed")
        assert closed.code == 1, (name, closed)
        assert "stdout takes no output (it is closed)" in closed.err, name


def test_a_reader_that_has_seen_enough_is_no_fault(commands: dict[str, tuple[str, ...]], run: Run) -> None:
    for name, call in commands.items():
        head = run(*call, out=text_to(Fault(32)))
        assert head.code == 0, (name, head)
        assert "stdout" not in head.err, name


def test_a_finished_run_is_kept_where_its_answer_cannot_be_printed(tmp_path: Path, run: Run) -> None:
    for name, out in {"full": text_to(Fault(28)), "closed": "closed", "gone": text_to(Fault(32))}.items():
        run(*ask(tmp_path, "a.png", "--out", name), out=out, err=text_to(Fault(32)))
        assert json.loads((tmp_path / name / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_letters_gets_plain_ones(
    commands: dict[str, tuple[str, ...]], run: Run, encoding: str
) -> None:
    for name, call in commands.items():
        ended = run(*call, out=text_to(io.BytesIO(), encoding), err=text_to(io.BytesIO(), encoding))
        assert ended.code == 0, (name, ended)
        assert "Traceback" not in ended.err
        if "JSON" in name:
            json.loads(ended.out)


def test_json_says_the_same_in_ascii(tmp_path: Path, run: Run) -> None:
    call = ("ask", str(paint(tmp_path / "a.png")), "Größe 0,5 µm? 🔬", "--mpp", "2", "--json")
    plain = run(*call, "--out", "a", out=text_to(io.BytesIO(), "ascii"))
    assert json.loads(plain.out)["question"] == "Größe 0,5 µm? 🔬"


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"TERM": ""}, {"NO_COLOR": "1"}, {"TERM": "", "TTY_COMPATIBLE": "1"}]
)
def test_a_plain_terminal_gets_plain_lines(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for number, call in enumerate((ask(tmp_path), ("doctor",))):
        streams = {
            name: Terminal(io.BytesIO(), encoding="utf-8", write_through=True) for name in ("out", "err")
        }
        ended = run(*call, **streams)
        assert ESCAPE not in ended.out + ended.err, number
        assert "\r" not in ended.out + ended.err
        assert max(map(len, ended.out.splitlines())) < 1000


@pytest.mark.parametrize("variable", ["TTY_COMPATIBLE", "FORCE_COLOR"])
def test_a_pipe_is_no_terminal_whatever_is_said_of_terminals(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    ended = run(*ask(tmp_path))
    assert ended.code == 0
    assert ESCAPE not in ended.out + ended.err
    assert max(map(len, (ended.out + ended.err).splitlines())) < 1000


def test_forty_columns_hold_every_word(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for call, words in (
        (ask(tmp_path), ("Not for diagnosis.", str(tmp_path / "run" / "report.html"))),
        (("doctor",), ("transformers", "pip install it")),
    ):
        more = ("--out", "run") if call[0] == "ask" else ()
        ended = run(*call, *more, out=Terminal(io.BytesIO(), encoding="utf-8", write_through=True))
        assert ended.code == 0
        plain = " ".join(re.sub(r"\x1b\[[\d;]*m", "", ended.out).split())
        assert [word for word in words if word not in plain] == []


def test_texts_become_plain() -> None:
    assert printable("0.5 µm/px → 8×", "ascii") == "0.5 um/px -> 8x"
    assert printable("0.5 µm/px", "utf-8") == "0.5 µm/px"
    assert printable("caf\udce9 é 病", "ascii") == r"caf\xe9 \xe9 \u75c5"
    assert printable("caf\udce9 é", "utf-8") == r"caf\xe9 é"


def test_real_streams_of_a_real_process(tmp_path: Path) -> None:
    """Closed, full and broken for the operating system too; an ASCII locale; no trouble at the very end."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "GIANT_CACHE": str(tmp_path)}
    giant = f"{sys.executable} -m agent"
    for shell, code in {
        f"{giant} --help >&-": 1,
        f"{giant} --help >/dev/full": 1,
        f"{giant} --help | head -1; exit ${{PIPESTATUS[0]}}": 0,
        f"{giant} nonsense 2>&-": 2,
        f"{giant} nonsense >&- 2>&- <&-": 2,
        f"{giant} ask missing.svs 'Größe?' 2>/dev/full": 1,
    }.items():
        done = subprocess.run(
            ["bash", "-c", shell], capture_output=True, text=True, cwd=ROOT, env=os.environ | plain
        )
        assert done.returncode == code, (shell, done)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
