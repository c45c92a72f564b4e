"""The server of one session: begins it, answers until it is told to stop, and leaves no device open."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from edgeemo.serve.address import BACKLOG, url_of
from edgeemo.serve.app import Application
from edgeemo.serve.connections import LiveSocket, limited_http
from edgeemo.serve.hub import Hub
from edgeemo.serve.options import SPARE_CONNECTIONS, ServeOptions

log = logging.getLogger(__name__)

_LONGEST_MESSAGE = 1024  # clients have nothing to say on a live socket
_PING_S = 20.0
_LONGEST_HEAD = 16 * 1024
_KEPT_ALIVE_S = 15
_ACCEPTED_AT_ONCE = 16
"""The loop accepts so many before it looks at any of them. With its own 100 or more, a crowd takes all the
files that the process may open before the limit on connections can turn anybody away."""
_LAST_ANSWERS_S = 1


class Server:
    """Serves one session.

    Args:
        bound: what `bind_socket` gave; closed here.
        options: how the session is served.
        hub: owns the session; begun and closed here.
        announce: called with the URL once clients are answered.

    Attributes:
        url: where the page is.
        application: the routes, once clients are answered.
    """

    def __init__(
        self,
        bound: socket.socket,
        options: ServeOptions,
        hub: Hub,
        *,
        announce: Callable[[str], object] = lambda url: None,
    ) -> None:
        self.url = url_of(bound)
        self._bound, self._options, self._hub, self._announce = bound, options, hub, announce
        self.application: Application | None = None
        self._server: _Uvicorn | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        """Begins the session and answers until `stop`, or a signal in the main thread.

        Raises:
            SensorError: a device asked for by name does not exist.
        """
        try:
            self._hub.begin()
            asyncio.run(self._answer())
        finally:
            self._bound.close()
            self._hub.close()

    def stop(self) -> None:
        """Ends `run`; from any thread, returns at once."""
        self._stopped.set()
        if self._server is not None:
            self._server.should_exit = True

    async def _answer(self) -> None:
        self.application = application = Application(self._hub, self._options)
        config = uvicorn.Config(
            application.guard,
            http=limited_http(self._options.max_clients + SPARE_CONNECTIONS),
            ws=LiveSocket,
            ws_max_size=_LONGEST_MESSAGE,
            ws_ping_interval=_PING_S,
            ws_ping_timeout=_PING_S,
            ws_per_message_deflate=False,  # 200 times the work, and memory for each client
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,  # who asks is who connects
            server_header=False,
            lifespan="on",
            timeout_keep_alive=_KEPT_ALIVE_S,
            backlog=_ACCEPTED_AT_ONCE,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
        )
        self._server = _Uvicorn(config, application, self._hub, lambda: self._announce(self.url))
        self._server.should_exit = self._stopped.is_set()
        await self._server.serve(sockets=[self._bound])


class _Uvicorn(uvicorn.Server):
    """Closes the devices beside the last answers, so that both together take two seconds at most."""

    def __init__(
        self, config: uvicorn.Config, application: Application, hub: Hub, announce: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._application, self._hub, self._tell = application, hub, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Announces the address once it answers."""
        await super().startup(sockets=sockets)
        for bound in sockets or ():
            bound.listen(BACKLOG)  # how many may wait in the kernel is another thing
        if self.started:
            self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends session and answers side by side."""
        closing: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(None, self._hub.close)
        await asyncio.sleep(0)
        self._application.end()
        await asyncio.wait({closing}, timeout=0.3)  # clients hear why, where no driver hangs
        await super().shutdown(sockets=sockets)
        await closing
