"""Images arrive as images at a real model: a tiny LLaVA behind `transformers serve`, asked as any other."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from PIL import Image, ImageDraw
from tiny_llava import IMAGE_TOKENS, make

from agent.llm.client import ChatClient, Reply, open_chat
from agent.run.journal import Journal

UP_WITHIN = 600.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatClient]:
    """A client of the served model. One server for all tests; it listens on loopback only."""
    folder = make(tmp_path_factory.mktemp("llava"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transformers = Path(sys.executable).with_name("transformers")
    log = (folder.parent / "llava.log").open("w+")
    server = subprocess.Popen(
        [transformers, "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    profiles = folder.parent / "profiles.json"
    profiles.write_text(json.dumps({f"openai:{folder}": {"max_tokens": 8}}))
    try:
        _wait(server, port, log)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("GIANT_PROFILES", str(profiles))
            patched.delenv("OPENAI_API_KEY", raising=False)
            yield open_chat(f"openai:{folder}", base_url=f"http://127.0.0.1:{port}/v1")
    finally:
        server.terminate()
        server.wait(60)
        log.close()


def _wait(server: subprocess.Popen[bytes], port: int, log: io.TextIOWrapper) -> None:
    """Until the server answers; its log is the message where it does not."""
    end = time.monotonic() + UP_WITHIN
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30.0).close()
        except (urllib.error.URLError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.1)
        else:
            return
    log.seek(0)
    pytest.fail(f"the server did not come up:\n{log.read()}")


def image(shade: int) -> dict[str, str]:
    """A picture in JPEG, as a content block: a square of one shade upon another."""
    file, picture = io.BytesIO(), Image.new("RGB", (60, 40), (shade, 255 - shade, 128))
    ImageDraw.Draw(picture).rectangle((10, 10, 30, 30), fill=(255 - shade, shade, 0))
    picture.save(file, "JPEG")
    return {"type": "image", "base64": base64.b64encode(file.getvalue()).decode(), "mime_type": "image/jpeg"}


def said(client: ChatClient, folder: Path, *images: dict[str, str]) -> Reply:
    text = {"type": "text", "text": "What is it?"}
    messages = [SystemMessage("You look at slides."), HumanMessage([text, *images])]
    return client.ask(Journal(folder), "run", "001-look", messages, [])


def test_every_image_takes_the_place_of_an_image(client: ChatClient, tmp_path: Path) -> None:
    prompts = [said(client, tmp_path, *[image(10)] * count).tokens_in for count in range(3)]
    assert prompts[1] - prompts[0] == IMAGE_TOKENS
    assert prompts[2] - prompts[1] == IMAGE_TOKENS


def test_another_image_gives_another_answer(client: ChatClient, tmp_path: Path) -> None:
    first, second = said(client, tmp_path, image(10)), said(client, tmp_path, image(240))
    assert first.tokens_in == second.tokens_in
    assert first.text != second.text
    assert first.tokens_out == 8
    assert first.cut
    again = Path(tmp_path / "again")
    again.mkdir()
    assert said(client, again, image(10)).text == first.text


def test_a_whole_turn_of_the_agent_is_taken(client: ChatClient, tmp_path: Path) -> None:
    from langchain_core.messages import AIMessage, ToolMessage

    tool = {
        "type": "function",
        "function": {
            "name": "zoom",
            "description": "Look.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
    call = {"type": "tool_call", "id": "call-1", "name": "zoom", "args": {"x": 1}}
    turn = [
        SystemMessage("You look at slides."),
        HumanMessage("Where?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("Shown below.", tool_call_id="call-1"),
        HumanMessage([{"type": "text", "text": "The region."}, image(10)]),
    ]
    reply = client.ask(Journal(tmp_path), "run", "002-answer", turn, [tool], force="zoom", last=True)
    assert reply.tokens_out == 8
    assert reply.attempts == 1
