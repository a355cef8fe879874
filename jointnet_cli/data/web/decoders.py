"""Processes that decode images from the web: a file that takes too long, too much memory or crashes ends one of them.

Libraries in C cannot be interrupted in a thread: a progressive JPEG of 2 MB may take minutes. The system itself ends a process
by the timer and the limit that it set before it decoded, whether or not its parent still lives.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from jointnet_cli.data.settings import PrepareSettings
from jointnet_cli.data.web.decode import TrainingImage, to_training_image
from jointnet_cli.data.web.status import FetchError, Status
from jointnet_cli.files.text import from_json, to_json

STALLED = 10.0
"""So many times `decode_timeout` may pass on the clock, for example on a busy machine, before a process is taken for stuck."""


KEPT = 2
"""Idle processes that wait for the next `Decoders` of this program."""

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Keep freed memory for the next image: pages that are mapped anew for each one cost a tenth of the time.
    "MALLOC_MMAP_THRESHOLD_": str(16 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
}


class Decoders:
    """Decodes one image in each thread that calls it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working: set[_Decoder] = set()
        self._closed = False

    def decode(self, data: bytes, settings: PrepareSettings) -> TrainingImage:
        """Return an image as `to_training_image` does, which runs in another process.

        Raises:
            FetchError: as there; `decode_timeout`, `decode_memory`.
            OSError: a process cannot be started.
        """
        worker = _idle() or _Decoder()
        with self._lock:
            self._working.add(worker)
            if self._closed:
                worker.process.kill()
        try:
            return worker.decode(data, settings)
        finally:
            with self._lock:
                self._working.discard(worker)
            if worker.process.poll() is None:
                _IDLE.append(worker)

    def close(self) -> None:
        """End the processes that are decoding, and idle ones but for a few."""
        with self._lock:
            self._closed = True
            for worker in self._working:
                worker.process.kill()  # its thread notices and closes the connection
        while len(_IDLE) > KEPT:
            _IDLE.pop().end()


class _Decoder:
    """A process and the connection to it."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libraries print what they think of a file
                process_group=0,  # Ctrl-C is for the parent
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        try:
            self._connection.recv_bytes()
        except EOFError as error:
            raise RuntimeError(f"a process for decoding ended at its start with code {self.process.wait()}") from error

    def decode(self, data: bytes, settings: PrepareSettings) -> TrainingImage:
        seconds = settings.fetch.decode_timeout
        try:
            self._connection.send(settings)
            self._connection.send_bytes(data)
            if not self._connection.poll(STALLED * seconds + STALLED):
                self.end()
                raise FetchError(Status.DECODE_TIMEOUT, f"more than {seconds:g} s")
            answer = from_json(self._connection.recv_bytes())
            if "status" in answer:
                raise FetchError(**answer)
            return TrainingImage(self._connection.recv_bytes(), **answer)
        except (EOFError, OSError) as error:
            raise self._death(settings) from error

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        self._connection.close()

    def _death(self, settings: PrepareSettings) -> FetchError:
        code = self.process.wait()
        with contextlib.suppress(OSError):
            self._connection.close()
        if code == -signal.SIGPROF:
            return FetchError(Status.DECODE_TIMEOUT, f"more than {settings.fetch.decode_timeout:g} s")
        if code == -signal.SIGKILL:
            return FetchError(Status.DECODE_MEMORY, "the system ended the process that decoded it")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return FetchError(Status.DAMAGED_IMAGE, f"it makes the decoder crash: {name}")


_IDLE: list[_Decoder] = []
"""Processes without work."""


def _idle() -> _Decoder | None:
    while _IDLE:
        worker = _IDLE.pop()
        if worker.process.poll() is None:
            return worker
    return None


@atexit.register
def _end_idle() -> None:
    while _IDLE:
        _IDLE.pop().end()


def serve(descriptor: int) -> None:
    """Decode images that come over a connection until its other end is closed."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with Connection(descriptor) as connection:
        connection.send_bytes(b"ready")
        size = _address_space()
        while True:
            try:
                settings, data = connection.recv(), connection.recv_bytes()
            except EOFError:
                return
            if size is not None:
                _limit(resource.RLIMIT_AS, size + len(data) + settings.fetch.decode_bytes)
            image = None
            signal.setitimer(signal.ITIMER_PROF, settings.fetch.decode_timeout)
            try:
                image = to_training_image(data, settings)
                answer = {name: value for name, value in asdict(image).items() if name != "jpeg"}
            except FetchError as error:
                answer = {"status": error.status, "message": str(error)}
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send_bytes(to_json(answer).encode())
            if image is not None:
                connection.send_bytes(image.jpeg)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int | None:
    """Return the bytes that this process maps; `None` where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return None
    return pages * resource.getpagesize()
