"""The child: opens a slide and reads rectangles of it, for a parent that trusts nothing it says.

It ends when its parent does: every thread waits at a socket of which the parent holds the other end.
"""

from __future__ import annotations

import importlib
import json
import math
import mmap
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.errors import GiantError, SlideError, printable
from core_model.slides.isolation.wire import MEMORY_EXIT, BrokenWire, Start, file_text, receive, send

if TYPE_CHECKING:
    from core_model.slides.sources import PixelSource


class Server:
    """One slide at a time, read by as many threads as there are lanes."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._source: PixelSource | None = None
        self._cpu_end, self._cpu_lock = 0.0, threading.Lock()

    def serve(self, sock: socket.socket, memory: mmap.mmap) -> None:
        """Answer the requests of a lane until the parent is gone; the process ends with it."""
        while True:
            try:
                request = json.loads(receive(sock))
                self._limit_cpu()
                send(sock, self._answer(request, memory))
            except BrokenWire:
                os._exit(0)
            except MemoryError:
                os._exit(MEMORY_EXIT)

    def _answer(self, request: dict[str, Any], memory: mmap.mmap) -> dict[str, Any]:
        from core_model.slides.sources import DecodeError

        doing: dict[str, Callable[..., dict[str, Any]]]
        doing = {"open": self._open, "read": self._read, "call": _called}
        try:
            return doing[request.pop("do")](memory=memory, **request)
        except DecodeError as error:
            return {"error": "DecodeError", "what": printable(str(error))}
        except GiantError as error:
            return _told(error)
        except MemoryError:
            raise
        except Exception as error:  # of a reader that a file has confused: the parent says so in one line
            return {"error": "Unexpected", "what": printable(f"{type(error).__name__}: {error}"[:500])}

    def _open(self, path: str, memory: mmap.mmap, identify: bool = True) -> dict[str, Any]:
        from core_model.slides.identity import opened
        from core_model.slides.readers import open_source

        if self._source is not None:
            self._source.close()
            self._source = None
        if identify:
            main, name, source, identity = opened(Path(path), follow_links=False)
        else:
            main, name, source, identity = Path(path), "", open_source(Path(path)), ""
        self._source = source
        return {
            "path": file_text(main),
            "name": name,
            "identity": identity,
            "vendor": source.vendor,
            "reader": source.reader,
            "properties": {str(key): str(value) for key, value in source.properties.items()},
            "levels": [list(size) for size in source.level_dimensions],
            "made": [list(level) for level in source.made_levels],
            "tiles": [
                list(source.tile_size(level))
                for level in range(len(source.level_dimensions) + len(source.made_levels))
            ],
        }

    def _read(self, level: int, box: list[int], memory: mmap.mmap) -> dict[str, Any]:
        if self._source is None:
            raise SlideError("the slide is closed")
        image, offset = self._source.read_level(level, *box)
        pixels = image.tobytes()  # RGB, row by row
        memory[: len(pixels)] = pixels
        return {"size": list(image.size), "offset": list(offset)}

    def _limit_cpu(self) -> None:
        """Let the system end this process where it computes for longer than its requests may take.

        The parent's clock ends it before; this is for a parent that cannot.
        """
        import resource

        with self._cpu_lock:
            used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            span = self._start.seconds * (len(self._start.lanes) + 1)
            if self._cpu_end - used < span / 2:
                self._cpu_end = used + span
                hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
                soft = math.ceil(self._cpu_end)
                soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
                resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _called(module: str, function: str, path: str, memory: mmap.mmap) -> dict[str, Any]:
    return {"found": _plain(getattr(importlib.import_module(module), function)(Path(path)))}


def _plain(value: Any) -> Any:
    """The value in terms of JSON."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _told(error: GiantError) -> dict[str, Any]:
    where = None if error.where is None else file_text(error.where)
    fix = None if error.fix is None else printable(error.fix)
    said = {"error": type(error).__name__, "what": printable(error.what), "where": where, "fix": fix}
    return said | {"kind": getattr(error, "kind", None)}


def limit(memory: int) -> None:
    """Take from this process what reading a slide does not need."""
    import resource

    # Data on Linux: files mapped for reading, however large, are no memory of ours.
    space = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    for which, most in ((space, memory), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))


def main(argument: str) -> None:
    """Serve until the parent is gone. `argument` is the text of a `Start`."""
    start = Start(**json.loads(argument))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: it is for the parent
    os.set_blocking(sys.stderr.fileno(), False)  # a library that chatters must not stop us
    limit(start.memory)
    threads, server = [], Server(start)
    for number, shared in start.lanes:
        sock = socket.socket(fileno=number)
        memory = mmap.mmap(shared, 0)
        threads.append(threading.Thread(target=server.serve, args=(sock, memory), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
