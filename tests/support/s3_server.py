"""An S3 server in this process whose answers a test can change."""

from collections.abc import Callable
from threading import Thread
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Application = Callable[[dict[str, Any], Any], Any]


class S3Server:
    """A moto server; `fault`, if set, is asked first and may answer a request in its place or change it."""

    def __init__(self) -> None:
        self.fault: Callable[[Application, dict[str, Any], Any], Any] | None = None
        moto = DomainDispatcherApplication(create_backend_app)

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            return self.fault(moto, environ, start_response) if self.fault else moto(environ, start_response)

        self._server = make_server("127.0.0.1", 0, application, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


def answer(start_response: Any, status: str, body: bytes) -> list[bytes]:
    """For a fault that answers in the server's place."""
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]
