"""A real OpenCV camera path: MJPEG over HTTP from a local server that stalls, breaks off and comes back."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from edgeemo.errors import InputError, SensorError
from edgeemo.sensors import Camera, Chunk, Patience
from edgeemo.sensors import camera as module
from edgeemo.sensors.listing.video_nodes import VideoNode, list_video_nodes
from edgeemo.sensors.opencv import bgr_from_frame, has_gstreamer

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")

QUICK = Patience(deadline_s=0.4, reopen_s=0.8, open_s=5.0, first_wait_s=0.1, most_wait_s=0.3)
BLUE = (200, 60, 20)


class StreamServer(ThreadingHTTPServer):
    """Sends one picture again and again; `stalled` keeps connections open and silent, `junk` spoils it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), StreamHandler)
        self.stalled = threading.Event()
        self.ended = threading.Event()
        self.junk = threading.Event()
        self.watching = 0
        self.show(64, 48)
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/camera.mjpg"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def show(self, width: int, height: int) -> None:
        """Sends a blue picture of that size from now on."""
        self.jpeg = bytes(cv2.imencode(".jpg", np.full((height, width, 3), BLUE, np.uint8))[1])

    def picture(self) -> bytes:
        if not self.junk.is_set():
            return self.jpeg
        return np.random.default_rng(len(self.jpeg)).bytes(5000)

    def die(self) -> None:
        """Breaks every connection off and frees the port."""
        self.ended.set()
        self.shutdown()
        self.server_close()


class StreamHandler(BaseHTTPRequestHandler):
    server: StreamServer

    def do_GET(self) -> None:
        self.server.watching += 1
        try:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            born_stalled = self.server.stalled.is_set()
            while not self.server.ended.wait(0.03):
                if self.server.stalled.is_set() or born_stalled:
                    self.wfile.write(b"")
                    if self.connection.recv(1) == b"":  # waits until the other side hangs up
                        return
                picture = self.server.picture()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
        except OSError:
            pass  # the camera hung up
        finally:
            self.server.watching -= 1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        pass


@pytest.fixture
def server() -> Iterator[StreamServer]:
    server = StreamServer()
    yield server
    server.die()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"still not so after 20 s: {what}")


def gather(camera: Camera, chunks: list[Chunk]) -> list[Chunk]:
    chunks.extend(camera.poll())
    return chunks


ISOLATE = pytest.mark.parametrize("isolate", [True, False], ids=["process", "thread"])


@ISOLATE
def test_a_stream_that_stalls_is_lost_and_comes_back(server: StreamServer, isolate: bool) -> None:
    with Camera(server.url, patience=QUICK, isolate=isolate) as camera:
        camera.start(time.monotonic)
        assert camera.status.state == "lost"
        chunks: list[Chunk] = []
        wait_for(lambda: len(gather(camera, chunks)) > 3, "frames arrive")
        wait_for(lambda: camera.status.state == "running", "the camera runs")
        assert chunks[0].array.shape == (48, 64, 3)
        assert np.abs(chunks[0].array.mean(axis=(0, 1)) - BLUE).max() < 6
        times = [chunk.time_s for chunk in chunks]
        assert times == sorted(set(times))

        server.stalled.set()
        wait_for(lambda: camera.status.state == "lost", "the stall is noticed")
        assert "no data from camera http" in camera.status.why
        camera.poll()
        assert camera.poll() == []

        server.stalled.clear()
        chunks.clear()
        wait_for(lambda: bool(gather(camera, chunks)) and camera.status.state == "running", "it runs again")
        assert camera.status.reconnects >= 1
        assert chunks[-1].time_s > times[-1]
    wait_for(lambda: camera.status.state == "absent", "closing is said")
    wait_for(lambda: server.watching == 0, "closing hangs up")


def frames_like(camera: Camera, size: tuple[int, int]) -> Callable[[], bool]:
    """Whether the newest frames are blue and of that (width, height), and the camera runs."""

    def check() -> bool:
        frames = [chunk.array for chunk in camera.poll()]
        return bool(
            frames
            and camera.status.state == "running"
            and frames[-1].shape == (size[1], size[0], 3)
            and np.abs(frames[-1].mean(axis=(0, 1)) - BLUE).max() < 6
        )

    return check


def test_a_server_that_dies_is_lost_and_found_when_it_comes_back(server: StreamServer) -> None:
    with Camera(server.url, patience=QUICK) as camera:
        camera.start(time.monotonic)
        wait_for(frames_like(camera, (64, 48)), "frames arrive")
        server.die()
        wait_for(lambda: camera.status.state == "lost", "the death is noticed")
        wait_for(lambda: "does not answer, or sends no video" in camera.status.why, "it is said")
        again = StreamServer(server.port)
        try:
            wait_for(frames_like(camera, (64, 48)), "frames arrive again")
            assert camera.status.reconnects >= 1
        finally:
            again.die()


def test_junk_in_a_stream_is_not_shown_and_pictures_after_it_are(server: StreamServer) -> None:
    with Camera(server.url, patience=QUICK) as camera:
        camera.start(time.monotonic)
        wait_for(frames_like(camera, (64, 48)), "frames arrive")
        server.junk.set()
        wait_for(lambda: camera.status.state == "lost", "junk is no picture")
        camera.poll()
        for _ in range(20):
            for chunk in camera.poll(0.02):  # one that was under way
                assert np.abs(chunk.array.mean(axis=(0, 1)) - BLUE).max() < 6
        server.junk.clear()
        wait_for(frames_like(camera, (64, 48)), "pictures again")


def test_a_stream_that_changes_its_frame_size_goes_on_in_the_size_it_began_with(server: StreamServer) -> None:
    with Camera(server.url, patience=QUICK) as camera:
        camera.start(time.monotonic)
        for size in ((64, 48), (160, 120), (32, 32), (640, 480)):
            server.show(*size)
            for _ in range(4):
                wait_for(frames_like(camera, (64, 48)), f"frames of {size}")
        assert (camera.status.reconnects, camera.status.drops) == (0, 0)


@ISOLATE
def test_closing_while_the_stream_stalls_does_not_wait_for_it(server: StreamServer, isolate: bool) -> None:
    camera = Camera(server.url, patience=QUICK, isolate=isolate)
    camera.start(time.monotonic)
    wait_for(lambda: bool(camera.poll()), "frames arrive")
    server.stalled.set()
    camera.close()
    camera.close()
    assert camera.status.why.endswith("is closed: nothing is read from it")
    assert camera.poll() == []
    wait_for(lambda: server.watching == 0, "the reader left behind releases the stream by itself")


def test_a_camera_can_be_closed_and_started_again(server: StreamServer) -> None:
    with Camera(server.url, patience=QUICK) as camera:
        for _ in range(2):
            camera.start(time.monotonic)
            wait_for(lambda: bool(camera.poll()), "frames arrive")
            camera.close()
            wait_for(lambda: server.watching == 0, "closing hangs up")


def test_frames_that_nobody_takes_are_dropped_and_counted(server: StreamServer) -> None:
    with Camera(server.url, patience=QUICK, buffer_frames=2, max_fps=None) as camera:
        camera.start(time.monotonic)
        wait_for(lambda: camera.status.drops > 3, "the buffer overflows")
        status, kept = camera.status, camera.poll()
        assert len(kept) == 2
        assert status.chunks >= status.drops + 2


def test_frames_beyond_max_fps_are_skipped(server: StreamServer) -> None:
    with Camera(server.url, patience=QUICK, max_fps=10) as camera:
        camera.start(time.monotonic)
        chunks: list[Chunk] = []
        wait_for(lambda: len(gather(camera, chunks)) >= 6, "frames arrive")
        slots = [int(chunk.time_s * 10) for chunk in chunks]
        assert slots == sorted(set(slots))
        assert camera.status.drops == 0


def test_a_server_that_is_down_is_a_state(server: StreamServer) -> None:
    server.die()
    with Camera(server.url, patience=QUICK) as camera:
        camera.start(time.monotonic)
        wait_for(lambda: "does not answer, or sends no video" in camera.status.why, "the refusal is told")
        assert camera.status.state == "lost"


def test_a_pipeline_without_gstreamer_is_refused_with_what_to_install() -> None:
    if has_gstreamer(cv2):
        pytest.skip("needs an OpenCV without GStreamer")
    camera = Camera("nvarguscamerasrc ! nvvidconv ! appsink")
    with pytest.raises(SensorError, match=r"no GStreamer, .* sudo apt-get install python3-opencv"):
        camera.start(time.monotonic)
    assert camera.is_pipeline
    assert camera.status.state == "absent"


def test_a_camera_that_may_come_later_is_waited_for() -> None:
    with Camera("no/such/file", required=False) as camera:
        camera.start(time.monotonic)
        wait_for(lambda: camera.status.state == "absent", "the absence is told")
        assert camera.status.why.startswith("there is no camera no/such/file; ")


def test_a_number_keeps_meaning_the_camera_that_it_meant_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    a, b = "/dev/v4l/by-id/usb-A", "/dev/v4l/by-id/usb-B"
    nodes = [VideoNode(0, "Cam A", a), VideoNode(2, "Cam B", b)]
    monkeypatch.setattr(module, "list_video_nodes", lambda: nodes)
    camera = Camera(2)
    assert camera.recipe().options["source"] == 2
    nodes[:] = [
        VideoNode(0, "Cam C", "/dev/v4l/by-id/usb-C"),
        VideoNode(2, "Cam A", a),
        VideoNode(4, "Cam B", b),
    ]
    assert camera.recipe().options["source"] == 4
    del nodes[2]
    gone = camera.glance()
    assert gone is not None
    assert (gone.state, gone.why) == ("absent", "there is no camera 2; there are: 0 (Cam C), 2 (Cam A)")


def test_passwords_in_addresses_are_not_shown() -> None:
    assert Camera("rtsp://user:secret@host/stream").name == "camera rtsp://host/stream"


def test_a_camera_that_does_not_exist_is_refused_by_name_and_absent_by_default() -> None:
    with pytest.raises(SensorError, match=r"there is no camera 4711(;|:)"):
        Camera(4711).start(time.monotonic)
    with pytest.raises(SensorError, match=r"there is no camera no/such/file"):
        Camera("no/such/file").start(time.monotonic)
    if list_video_nodes():
        pytest.skip("needs a machine without a camera")
    with Camera() as camera:
        camera.start(time.monotonic)
        wait_for(lambda: camera.status.state == "absent", "the absence is told")
        assert "no camera is connected" in camera.status.why


def test_a_video_file_plays_once_at_its_own_pace(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for _ in range(10):
        writer.write(np.full((48, 64, 3), BLUE, np.uint8))
    writer.release()
    with Camera(path, max_fps=None) as camera:
        camera.start(time.monotonic)
        chunks: list[Chunk] = []
        wait_for(lambda: "has ended" in camera.status.why, "the end")
        assert len(gather(camera, chunks)) == 10
        assert chunks[-1].time_s - chunks[0].time_s > 0.35
        assert camera.status.reconnects == 0


def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with Camera(tmp_path / "notes.txt") as camera:
        camera.start(time.monotonic)
        wait_for(lambda: "not a video that OpenCV reads" in camera.status.why, "the reason is told")


def test_frames_of_other_kinds_become_bgr() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (bgr_from_frame(grey) == grey[:, :, None]).all()
    assert bgr_from_frame(grey[:, :, None]).shape == (3, 4, 3)
    assert bgr_from_frame(np.zeros((3, 4, 4), np.uint8)).shape == (3, 4, 3)
    with pytest.raises(InputError, match="1, 3 or 4 channels"):
        bgr_from_frame(np.zeros((3, 4, 2), np.uint8))
    with pytest.raises(InputError, match="must be uint8"):
        bgr_from_frame(np.zeros((3, 4, 3), np.uint16))


def test_linux_cameras_are_listed_without_opening_them(tmp_path: Path) -> None:
    for node, index, name in (("video0", 0, "Cam A"), ("video1", 1, "Cam A"), ("video10", 0, "Cam B")):
        about = tmp_path / "sys" / "class" / "video4linux" / node
        about.mkdir(parents=True)
        (about / "index").write_text(f"{index}\n")
        (about / "name").write_text(f"{name}\n")
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / node).touch()
    (tmp_path / "dev" / "v4l" / "by-id").mkdir(parents=True)
    link = tmp_path / "dev" / "v4l" / "by-id" / "usb-B"
    link.symlink_to("../../video10")
    assert list_video_nodes(tmp_path) == [VideoNode(0, "Cam A"), VideoNode(10, "Cam B", str(link))]
    assert list_video_nodes(tmp_path / "none") == []
