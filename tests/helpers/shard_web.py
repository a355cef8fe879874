"""A web server on this machine that serves the files of a folder, as badly as wanted."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class ShardWeb:
    """Answers for files, by default also for ranges of their bytes."""

    folder: Path
    ranges: bool = True
    breaks: int = 0
    """So many answers with a body stop halfway."""
    url: str = ""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies by file."""

    def broken(self) -> bool:
        """Whether the next answer is one that stops halfway."""
        self.breaks -= 1
        return self.breaks >= 0


@contextmanager
def serving(folder: Path, **behaviour: int | bool) -> Iterator[ShardWeb]:
    """Serve a folder until the block ends."""
    web = ShardWeb(folder, **behaviour)  # type: ignore[arg-type]
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    web: ShardWeb

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        file = self.web.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.web.ranges else None
        code, part = 200, content
        if wanted:
            code, part = 206, content[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(code)
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            self.send_header("Content-Range", f"bytes {wanted[1]}-{int(wanted[1]) + len(part) - 1}/{len(content)}")
        self.end_headers()
        if body:
            if file.suffix == ".tar" and self.web.broken():
                part = part[: len(part) // 2]
                self.close_connection = True
            self.web.sent[file.name] += len(part)
            self.wfile.write(part)
