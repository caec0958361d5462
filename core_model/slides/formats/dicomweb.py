"""Slides on a DICOMweb server, by the address of a series: …/studies/UID/series/UID.

Only metadata and frames of levels are asked for: no label, overview or annotation leaves the server. The
identity of such a slide is that of its UIDs and of the sizes of its levels, as its pixels are not all read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from core_model.errors import SlideError
from core_model.slides.formats.dicom import level_source, settings, translated
from core_model.slides.formats.grid import extra
from core_model.slides.identity import SCHEME, Opened
from core_model.slides.sources import DecodeError

TOKEN = "GIANT_DICOMWEB_TOKEN"
"""Variable of the environment with a bearer token. It is sent over https, and to this machine, alone."""

SECONDS = (10, 30)
"""To reach the server, and to wait for more of an answer."""

ATTEMPTS, WAIT_MS = 3, 200
"""Requests that a busy server gets, and the pause after the first, which doubles."""

MOST_INSTANCES = 500
"""Files of one series."""

HERE = ("localhost", "127.0.0.1", "::1")

_SERIES = re.compile(r"(?P<base>/.*?)/?studies/(?P<study>[0-9.]{1,64})/series/(?P<series>[0-9.]{1,64})/?")


class Address(NamedTuple):
    """A series on a server."""

    base: str
    """Address of the service."""
    study: str
    series: str


def opened_on_server(path: Path) -> Opened:
    """Open the series whose address `path` stands for. Raises `SlideError`."""
    address = read_address(path)
    extra("wsidicom", "dicom", "a slide on a server", path)
    with _refusals(path), translated(path):
        client = _client(address, path)
        slide = _open(client, address)
    if not client.levels or sum(
        len(level.instances) for pyramid in slide.pyramids for level in pyramid
    ) < len(client.levels):
        raise SlideError("a level of it cannot be read", where=path)
    client.opening = False
    source = level_source(slide, path, f"wsidicom {_version()} from a server")
    return Opened(path, address.series, source, _identity(address, client.levels))


def read_address(path: Path) -> Address:
    """The parts of an address. Raises `SlideError` where it is none of a series."""
    parts = urlsplit(f"{path.parts[0]}//{'/'.join(path.parts[1:])}")
    match = _SERIES.fullmatch(parts.path)
    if match is None or parts.query or parts.fragment or not parts.hostname:
        raise SlideError(
            "this is no address of a series on a DICOMweb server",
            where=path if "@" not in str(path) else None,
            fix="It is https://SERVER/…/studies/UID/series/UID",
        )
    if "@" in parts.netloc:
        raise SlideError("the address holds a name or password", fix=f"Put a token into {TOKEN} in its place")
    if _token() and parts.scheme != "https" and parts.hostname not in HERE:
        raise SlideError(f"{TOKEN} is not sent over http", where=path, fix="Give the address with https://")
    return Address(f"{parts.scheme}://{parts.netloc}{match['base']}", match["study"], match["series"])


def _token() -> str:
    """The token of the environment, "" where there is none. Raises `SlideError` where it cannot be sent."""
    token = os.environ.get(TOKEN, "").strip()
    if token.isascii() and token.isprintable() and " " not in token:
        return token
    raise SlideError(f"{TOKEN} holds spaces or signs that no token has", fix="Set it to the token alone")


def _client(address: Address, path: Path) -> Any:
    from dicomweb_client.api import DICOMwebClient
    from requests.exceptions import RequestException
    from wsidicom import WsiDicomWebClient

    class LevelClient(WsiDicomWebClient):
        """A client that knows nothing of a series but its levels."""

        def __init__(self, client: Any) -> None:
            super().__init__(client)
            self.levels: list[Any] = []
            self.opening = True

        def get_annotation_instances(self, *_: Any) -> Iterator[Any]:
            return iter(())

        def get_wsi_instances(self, study_uid: Any, series_uids: Any) -> Iterator[Any]:
            for number, item in enumerate(super().get_wsi_instances(study_uid, series_uids)):
                if number >= MOST_INSTANCES:
                    raise SlideError(f"the series has more than {MOST_INSTANCES} instances", where=path)
                yield item

        def get_instance(self, *uids: Any) -> Any:
            data = super().get_instance(*uids)
            if len(kind := data.get("ImageType", ())) < 3 or kind[2] != "VOLUME":
                return type(data)()  # which wsidicom passes over
            self.levels.append(data)
            return data

        def get_frames(self, *args: Any, **options: Any) -> Iterator[bytes]:
            try:
                frames: list[bytes] = list(super().get_frames(*args, **options))
            except RequestException as error:
                if self.opening:
                    raise  # it may be a way to ask that the server does not know
                raise DecodeError(said(error)) from error
            return iter(frames)

    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else None
    client = DICOMwebClient(address.base, headers=headers, timeout=SECONDS)
    client.set_http_retry_params(max_attempts=ATTEMPTS, wait_exponential_multiplier=WAIT_MS)
    return LevelClient(client)


def _open(client: Any, address: Address) -> Any:
    import wsidicom

    return wsidicom.WsiDicom.open_web(client, address.study, address.series, settings=settings(wsidicom))


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What a server answers, or does not, as `SlideError`."""
    from requests.exceptions import RequestException

    try:
        yield
    except RequestException as error:
        status = getattr(error.response, "status_code", None)
        fix = {401: f"Put a token into {TOKEN}", 403: f"Put a token into {TOKEN} that may read the series"}
        raise SlideError(said(error), where=path, fix=fix.get(status or 0)) from error


def said(error: Exception) -> str:
    """What went wrong with a request, in words that hold neither an address nor a token."""
    from requests import exceptions

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the server does not let us in ({status})"
    if status == 404:
        return "the server has no such series, or not all of it (404)"
    if status is not None:
        return f"the server answered with an error ({status})"
    if isinstance(error, exceptions.Timeout):
        return f"the server did not answer within {SECONDS[1]} s"
    if isinstance(error, exceptions.SSLError):
        return "the certificate of the server is not trusted"
    if isinstance(error, exceptions.ConnectionError):
        return "the server cannot be reached"
    return f"the server's answer cannot be read ({type(error).__name__})"


def _identity(address: Address, levels: Iterable[Any]) -> str:
    names = ("SOPInstanceUID", "TotalPixelMatrixColumns", "TotalPixelMatrixRows", "Columns", "Rows",
             "NumberOfFrames")  # fmt: skip
    facts = sorted("|".join(str(data.get(name, "")) for name in names) for data in levels)
    identity = (SCHEME, "dicomweb", address.study, address.series, *facts)
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()


def _version() -> str:
    import wsidicom

    return str(wsidicom.__version__)
