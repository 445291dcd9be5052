"""A TCP proxy in front of a test server: it can cut every connection, slow each one down, and it counts what passes."""

import socket
import time
from contextlib import suppress
from threading import Lock, Thread

CHUNK = 64 << 10


class TcpProxy:
    """Listens at `url`. latency_s: before the first byte of each answer; bytes_per_s: of each connection; 0 is none.

    While it is cut, connections are refused, and those that were open are gone.
    """

    def __init__(self, target: str, latency_s: float = 0, bytes_per_s: float = 0) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target = host, int(port)
        self._latency_s, self._bytes_per_s = latency_s, bytes_per_s
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.received = 0
        self._port = 0
        self.restore()
        self.url = f"http://127.0.0.1:{self._port}"

    def cut(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            connections, self._open = self._open, set()
        for connection in filter(None, (listener, *connections)):
            _close(connection)

    def restore(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = listener.getsockname()[1]
        with self._lock:
            self._listener = listener
        Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                if self._listener is not listener:
                    _close(client)
                    _close(server)
                    return
                self._open |= {client, server}
            Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        """An answer begins with the first bytes after a pause: requests of a connection follow each other."""
        last = 0.0
        try:
            while data := source.recv(CHUNK):
                if is_answer:
                    if self._latency_s and time.monotonic() - last > self._latency_s:
                        time.sleep(self._latency_s)
                    if self._bytes_per_s:
                        time.sleep(len(data) / self._bytes_per_s)
                target.sendall(data)
                with self._lock:
                    self.received += len(data)
                last = time.monotonic()
        except OSError:
            pass
        _close(source)
        _close(target)


def _close(connection: socket.socket) -> None:
    """Also for a thread that waits for it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
