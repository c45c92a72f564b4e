"""The routes, with what the OpenAPI document says of each."""

from __future__ import annotations

import asyncio
import dataclasses
import mimetypes
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from edgeemo import __version__
from edgeemo.errors import EdgeEmoError, InputError, SubsetError
from edgeemo.modality import VIDEO
from edgeemo.sensors import list_devices
from edgeemo.serve.clients import Client, Clients
from edgeemo.serve.connections import CONNECTION, LiveSocket
from edgeemo.serve.documents import answer_of, error_answers, openapi_document
from edgeemo.serve.guard import Guard, client_of
from edgeemo.serve.hub import Hub
from edgeemo.serve.login import cookie_header, login_page, token_from_form
from edgeemo.serve.messages import end_message, json_text
from edgeemo.serve.metrics import CONTENT_TYPE, SessionCollector, metrics_text, registry_of
from edgeemo.serve.offloop import BusyError, OffLoop
from edgeemo.serve.options import ServeOptions
from edgeemo.serve.preview import MOST_VIEWERS, Preview
from edgeemo.serve.refusals import refuse
from edgeemo.serve.token import is_same

PAGE = Path(__file__).resolve().parent / "page"
_DEVICES_S = 5.0  # a listing opens child processes; one that is this old will do
_ONLY_TELLS = 1008
_NO_TELEMETRY: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
"""Newer FastAPIs report to OpenTelemetry where the process has it; nothing leaves this machine unasked."""
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}}}
}
_ABOUT = "One session of edgeemo: what is felt, from whatever sensors are alive. WebSocket: `/v1/live`."


class MuteOrder(BaseModel):
    """Whether a modality is to be switched off."""

    model_config = ConfigDict(extra="forbid", strict=True)
    muted: bool = Field(description="true closes its device, false opens it again")


class Acknowledgement(BaseModel):
    """Who has acknowledged the notice."""

    model_config = ConfigDict(extra="forbid", strict=True)
    by: str = Field(description="in words, never needed to be a name", min_length=1, max_length=200)


class Application:
    """The routes of one session, and what they share.

    Args:
        hub: the session's.
        options: how it is served.
    """

    def __init__(self, hub: Hub, options: ServeOptions) -> None:
        self.hub, self.options = hub, options
        self.clients = Clients(most=options.max_clients, deadline_s=options.send_deadline_s)
        self.offloop = OffLoop()
        self.preview: Preview | None = None
        self.routes = self._make_routes()
        self.guard = Guard(self.routes, options)
        self._registry = registry_of(SessionCollector(hub, self.clients, self.guard))
        self._devices: tuple[float, str] | None = None
        self._listing = asyncio.Lock()
        hub.listen(self.clients.deliver, clients=lambda: len(self.clients))

    def end(self) -> None:
        """Ends what never ends by itself: pictures under way, clients that do not read."""
        if self.preview is not None:
            self.preview.end()
        self.clients.end()

    def _make_routes(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            sweeping = asyncio.ensure_future(self.clients.sweep())
            tap = self.hub.taps.get(VIDEO)
            if self.options.preview and tap is not None:
                self.preview = Preview(tap, self.offloop, deadline_s=self.options.send_deadline_s)
            try:
                yield
            finally:
                sweeping.cancel()
                with suppress(asyncio.CancelledError):
                    await sweeping
                self.offloop.close()

        app = FastAPI(
            title="edgeemo", version=__version__, description=_ABOUT, lifespan=lifespan,
            docs_url=None, redoc_url=None,  # these pages load scripts from elsewhere
            telemetry=_NO_TELEMETRY,
        )  # fmt: skip
        app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
        app.exception_handler(EdgeEmoError)(_answer_error)
        app.exception_handler(HTTPException)(_answer_http_error)
        app.exception_handler(RequestValidationError)(_answer_bad_request)
        self._add_probes(app)
        self._add_session(app)
        self._add_switches(app)
        self._add_page(app)
        return app

    def _add_probes(self, app: FastAPI) -> None:
        @app.get(
            "/healthz", tags=["probes"], summary="Whether the process answers", responses=answer_of("health")
        )
        async def healthz() -> Response:
            return _json('{"ok":true}')

        @app.get(
            "/readyz", tags=["probes"], summary="Whether readings come",
            responses={**answer_of("ready"), **error_answers(503, schema="ready")},
        )  # fmt: skip
        async def readyz() -> Response:
            why = self.hub.why_not_ready()
            return _json(json_text({"ready": not why, "why": why}), 503 if why else 200)

        @app.get(
            "/metrics", tags=["probes"], summary="Figures for Prometheus",
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        )  # fmt: skip
        async def metrics() -> Response:
            text = await self.offloop.quick(lambda: metrics_text(self._registry))
            return Response(text, media_type=CONTENT_TYPE)

    def _add_session(self, app: FastAPI) -> None:
        @app.get(
            "/v1/reading", tags=["session"], summary="The newest reading",
            responses={**answer_of("reading"), **error_answers(503)},
        )  # fmt: skip
        async def reading() -> Response:
            text = self.hub.newest_text
            return _json(text) if text else _error(503, self.hub.why_not_ready() or "there is no reading yet")

        @app.get(
            "/v1/stats",
            tags=["session"],
            summary="What the session has done so far",
            responses=answer_of("stats"),
        )
        async def stats() -> Response:
            return _json(await self.offloop.quick(lambda: self.hub.stats_text))

        @app.get(
            "/v1/events",
            tags=["session"],
            summary="What happened beside the readings",
            responses=answer_of("events"),
        )
        async def events(
            after: Annotated[int, Query(ge=0, le=2**53, description="the highest number seen already")] = 0,
        ) -> Response:
            return _json(
                await self.offloop.quick(
                    lambda: json_text({"events": [event.to_json() for event in self.hub.events(after)]})
                )
            )

        @app.get(
            "/v1/devices",
            tags=["session"],
            summary="What this machine can sense with",
            responses=answer_of("devices"),
        )
        async def devices() -> Response:
            async with self._listing:
                if self._devices is None or time.monotonic() - self._devices[0] > _DEVICES_S:
                    self._devices = (time.monotonic(), await self.offloop.slow(_devices_text))
                return _json(self._devices[1])

        @app.get(
            "/v1/preview", tags=["session"], summary="The camera's picture, JPEG after JPEG",
            responses={**_PICTURES, **error_answers(404, 503)},
        )  # fmt: skip
        async def preview() -> Response:
            shown = self.preview
            if shown is None:
                why = (
                    "is off; start with: edgeemo serve --preview"
                    if not self.options.preview
                    else "has no camera"
                )
                return _error(404, f"the preview {why}")
            if shown.viewers >= MOST_VIEWERS:
                return _error(503, f"{MOST_VIEWERS} viewers look at the picture already, which is the most")
            return _Handed(shown)

        @app.websocket("/v1/live")
        async def live(socket: WebSocket) -> None:
            await self._serve_live(socket)

    def _add_switches(self, app: FastAPI) -> None:
        @app.put(
            "/v1/modalities/{name}", tags=["switches"], summary="Switch a modality off or on",
            responses={**answer_of("modality"), **error_answers(404, 503)},
        )  # fmt: skip
        async def switch(name: str, order: MuteOrder) -> Response:
            await self.offloop.slow(lambda: self.hub.mute(name, muted=order.muted))
            return _json(json_text({"modality": name, "muted": name in self.hub.muted}))

        @app.put(
            "/v1/notice", tags=["switches"], summary="Acknowledge the notice: sensors open",
            responses={**answer_of("notice"), **error_answers(400, 503)},
        )  # fmt: skip
        async def acknowledge(who: Acknowledgement) -> Response:
            await self.offloop.slow(lambda: self.hub.acknowledge(who.by))
            return _json(json_text(self.hub.notice))

        @app.delete(
            "/v1/notice", tags=["switches"], summary="Withdraw the acknowledgement: sensors close",
            responses={**answer_of("notice"), **error_answers(400)},
        )  # fmt: skip
        async def withdraw() -> Response:
            await self.offloop.slow(self.hub.withdraw)
            return _json(json_text(self.hub.notice))

    def _add_page(self, app: FastAPI) -> None:
        for suffix, kind in ((".js", "text/javascript"), (".css", "text/css"), (".svg", "image/svg+xml")):
            mimetypes.add_type(kind, suffix)  # a machine may map them to something that browsers refuse

        @app.get("/", include_in_schema=False)
        async def page() -> Response:
            return FileResponse(PAGE / "index.html", media_type="text/html")

        @app.get("/login", include_in_schema=False)
        async def login_form() -> Response:
            if self.options.token is None:
                return RedirectResponse("/", 303)
            return HTMLResponse(await self.offloop.quick(lambda: login_page(PAGE)))

        @app.post("/login", include_in_schema=False)
        async def login(request: Request) -> Response:
            return await self._login(request)

        app.mount("/page", StaticFiles(directory=PAGE, check_dir=False), name="page")

    async def _login(self, request: Request) -> Response:
        token, client = self.options.token, client_of(request.scope)
        if token is None:
            return RedirectResponse("/", 303)
        wait_s = self.guard.must_wait_s(client)
        if wait_s:
            problem, status = f"Too many wrong tokens. Wait {wait_s:.0f} seconds, then try again.", 429
        elif is_same(token_from_form(await request.body()), token):
            secure = request.scope["scheme"] == "https"
            return RedirectResponse("/", 303, headers={"set-cookie": cookie_header(token, secure=secure)})
        else:
            self.guard.failed(client)
            problem, status = "This is not the token of this server.", 401
        return HTMLResponse(await self.offloop.quick(lambda: login_page(PAGE, problem)), status)

    async def _serve_live(self, socket: WebSocket) -> None:
        """Tells one client everything until it goes."""

        async def send(text: str) -> None:
            await socket.send({"type": "websocket.send", "text": text})

        connection: LiveSocket = socket.scope[CONNECTION]
        client = Client(send, connection.cut_off)
        if not self.clients.join(client):
            await refuse(
                socket.scope, socket.send, 503,
                f"{self.options.max_clients} clients are connected, which is the most; try again later",
            )  # fmt: skip
            return
        sending = listening = None
        try:
            await socket.accept()
            client.put("hello", self.hub.hello())
            if self.hub.ended:
                client.put("end", end_message(self.hub.ended))
            sending = asyncio.ensure_future(client.send_all())
            listening = asyncio.ensure_future(socket.receive())
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() and listening.result()["type"] == "websocket.receive":
                await socket.close(_ONLY_TELLS, "this socket only tells; PUT /v1/... changes something")
        finally:
            self.clients.leave(client, silent=connection.was_silent)
            for task in (sending, listening):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, Exception):  # the client has gone, whatever it says
                        await task


class _Handed(Response):
    """An answer that something else gives."""

    def __init__(self, give: Callable[..., Any]) -> None:
        super().__init__()
        self._give = give

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._give(scope, receive, send)


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def _error(status: int, sentence: str) -> Response:
    return _json(json_text({"error": sentence}), status)


def _devices_text() -> str:
    return json_text({group.kind: dataclasses.asdict(group) for group in list_devices()})


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answers what edgeemo raised: the caller's mistake, or a device's trouble."""
    status = 404 if isinstance(error, SubsetError) else 400 if isinstance(error, InputError) else 503
    retry = {"retry-after": "1"} if isinstance(error, BusyError) else {}
    response = _error(status, str(error))
    response.headers.update(retry)
    return response


async def _answer_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    said = {
        404: f"there is no {path}; /openapi.json lists what there is",
        405: f"{request.method} does not work on {path}; /openapi.json lists what does",
    }.get(status, str(getattr(error, "detail", error)))
    response = _error(status, said)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _answer_bad_request(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults)
    return _error(422, f"this request cannot be used: {said}")
