"""The camera's picture as a browser shows it: JPEG after JPEG in one answer, each made once."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.sensors.opencv import load_cv2
from edgeemo.serve.connections import CONNECTION
from edgeemo.serve.offloop import OffLoop
from edgeemo.serve.refusals import Receive, Scope, Send
from edgeemo.serve.taps import Tap

MOST_VIEWERS = 8
_EVERY_S = 0.1
_LAST_S = 0.2
_LONGEST_SIDE = 640
_QUALITY = 70
_BOUNDARY = b"frame"
_NO_PICTURE = np.zeros((48, 64, 3), np.uint8)


class Preview:
    """Gives viewers the newest picture, at most ten a second, and a black one where there is none.

    A browser goes on showing the last picture that it got; the black one takes it away when the camera is
    switched off or the acknowledgement withdrawn.

    Args:
        tap: around the camera.
        offloop: where pictures are made.
        deadline_s: how long a viewer may take to accept one.
    """

    def __init__(self, tap: Tap, offloop: OffLoop, *, deadline_s: float) -> None:
        self._tap, self._offloop, self._deadline_s = tap, offloop, deadline_s
        self._lock = threading.Lock()
        self._made: tuple[tuple[int, bool], bytes] | None = None
        self.viewers = 0
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Ends all answers under way."""
        self._ended.set()

    def newest_jpeg(self) -> tuple[tuple[int, bool], bytes]:
        """Returns what tells pictures apart, and the newest one as JPEG."""
        number, frame = self._tap.newest_frame()
        key = (number, frame is not None)
        with self._lock:
            if self._made is None or self._made[0] != key:
                self._made = (key, jpeg_from_frame(_NO_PICTURE if frame is None else frame))
            return self._made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends pictures until the viewer goes, takes none in time, or the server ends."""
        kind = b"multipart/x-mixed-replace; boundary=" + _BOUNDARY
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        self.viewers += 1
        waiting = [asyncio.ensure_future(_await_gone(receive)), asyncio.ensure_future(self._ended.wait())]
        showing = asyncio.ensure_future(self._show(send))
        try:
            await asyncio.wait([*waiting, showing], return_when=asyncio.FIRST_COMPLETED)
            if showing.done():  # the only end that it has by itself: the viewer takes no picture any more
                scope["state"][CONNECTION].cut_off()
        finally:
            self.viewers -= 1
            for task in (*waiting, showing):
                task.cancel()
                with suppress(asyncio.CancelledError, asyncio.TimeoutError):
                    await task
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), _LAST_S)

    async def _show(self, send: Send) -> None:
        shown = None
        while True:
            key, jpeg = await self._offloop.quick(self.newest_jpeg)
            if key != shown:
                shown = key
                part = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (
                    _BOUNDARY,
                    len(jpeg),
                    jpeg,
                )
                body = {"type": "http.response.body", "body": part, "more_body": True}
                await asyncio.wait_for(send(body), self._deadline_s)
            await asyncio.sleep(_EVERY_S)


async def _await_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def jpeg_from_frame(frame: NDArray[Any]) -> bytes:
    """Returns a picture (H, W, 3) BGR as JPEG, at most 640 pixels along its longer side."""
    cv2 = load_cv2()
    scale = _LONGEST_SIDE / max(frame.shape[:2])
    if scale < 1.0:
        frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    made, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data) if made else b""
