"""A DICOMweb server on loopback that serves the files of one series."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom import dcmread
from pydicom.encaps import generate_frames

Refusal = Callable[[str], int | None]
"""Path of a request → the status that it is refused with; None for those that are served."""


class DicomWebServer:
    """Serves QIDO and WADO as far as wsidicom asks; `asked` holds the paths of all requests."""

    def __init__(
        self,
        folder: Path,
        token: str | None = None,
        refuse: Refusal = lambda path: None,
        syntaxes: bool = True,
    ) -> None:
        self._files = {str(data.SOPInstanceUID): data for data in map(dcmread, sorted(folder.iterdir()))}
        self._token, self._refuse, self._syntaxes = token, refuse, syntaxes
        self.asked: list[str] = []
        first = next(iter(self._files.values()))
        self.study, self.series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Address of the series."""
        return (
            f"http://127.0.0.1:{self._server.server_port}/dicomweb/studies/{self.study}/series/{self.series}"
        )

    def __enter__(self) -> DicomWebServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.asked.append(path)
        status = self._refuse(path)
        if self._token is not None and request.headers.get("Authorization") != f"Bearer {self._token}":
            status = 401
        if status is not None:
            request.send_error(status)
            return
        kind, body = self._answer(path)
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _answer(self, path: str) -> tuple[str, bytes]:
        if path.endswith("/instances"):
            return "application/dicom+json", json.dumps(
                [self._listed(d) for d in self._files.values()]
            ).encode()
        match = re.search(r"/instances/([0-9.]+)/(metadata|frames/(\d+))$", path)
        assert match is not None, path
        data = self._files[match[1]]
        if match[2] == "metadata":
            about = {tag: value for tag, value in data.to_json_dict().items() if tag != "7FE00010"}
            return "application/dicom+json", json.dumps([about]).encode()
        frames = list(generate_frames(data.PixelData, number_of_frames=int(data.NumberOfFrames)))
        part = b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + frames[int(match[3]) - 1] + b"\r\n--b--\r\n"
        return 'multipart/related; type="image/jpeg"; boundary=b', part

    def _listed(self, data: Any) -> dict[str, Any]:
        row = {
            "00080016": {"vr": "UI", "Value": [str(data.SOPClassUID)]},
            "00080018": {"vr": "UI", "Value": [str(data.SOPInstanceUID)]},
            "0020000E": {"vr": "UI", "Value": [self.series]},
        }
        syntax = {"00083002": {"vr": "UI", "Value": [str(data.file_meta.TransferSyntaxUID)]}}
        return row | (syntax if self._syntaxes else {})
