"""What `edgeemo serve` answers over HTTP: probes, readings, switches, figures, pictures."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("uvicorn", reason="needs uvicorn")
pytest.importorskip("websockets", reason="needs websockets")

import httpx
import numpy as np
from live_server import Served, Switchable, served, wait_for
from prometheus_client.parser import text_string_to_metric_families

from edgeemo import __version__
from edgeemo.schemas import load_schema
from edgeemo.sensors import PatternCamera, PatternMicrophone
from edgeemo.sensors.opencv import load_cv2
from edgeemo.serve.hub import Hub
from edgeemo.session import Reading

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with served(preview=True) as server:
        wait_for(lambda: server.hub.newest is not None, "a first reading")
        yield server


@pytest.fixture
def client(page: Served) -> Iterator[httpx.Client]:
    with page.client() as opened:
        yield opened


def check(name: str, document: object) -> None:
    jsonschema.Draft202012Validator(load_schema(name)).validate(document)


def test_the_process_answers_and_readings_come(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"ok": True}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "why": ""})


def test_the_newest_reading_is_the_sessions_own(client: httpx.Client, page: Served) -> None:
    answer = client.get("/v1/reading")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    check("reading", answer.json())
    assert 0 < answer.json()["time_s"] <= page.hub.session.now_s
    later = answer.json()["time_s"]
    wait_for(lambda: client.get("/v1/reading").json()["time_s"] > later, "a newer reading")


def test_stats_devices_and_events_have_the_documented_shapes(client: httpx.Client, page: Served) -> None:
    stats = client.get("/v1/stats").json()
    check("stats", stats)
    assert stats["sensors"]["audio"]["state"] == "running"
    check("devices", client.get("/v1/devices").json())
    wait_for(lambda: len(page.hub.events(0)) >= 2, "two events")
    told = client.get("/v1/events").json()["events"]
    for event in told:
        check("event", event)
    after = client.get("/v1/events", params={"after": told[0]["number"]}).json()["events"]
    assert [event["number"] for event in after][: len(told) - 1] == [event["number"] for event in told[1:]]


def test_the_page_and_its_files_are_served(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    script = client.get("/page/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "no-cache"
    assert client.get("/page/../app.py").status_code == 404
    assert client.get("/page/%2e%2e/app.py").status_code == 404


def test_browsers_are_told_to_forbid_everything_else(client: httpx.Client, page: Served) -> None:
    for path in ("/", "/v1/reading", "/nothing", "/page/page.js"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert f"ws://127.0.0.1:{page.port}" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_the_openapi_document_is_valid_and_complete(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == __version__
    shapes = document["components"]["schemas"]
    for schema in shapes.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in references_in(document):
        assert reference.removeprefix("#/components/schemas/") in shapes
    paths = {"/healthz", "/readyz", "/metrics", "/v1/reading", "/v1/stats", "/v1/events", "/v1/devices"}
    assert set(document["paths"]) == paths | {"/v1/preview", "/v1/modalities/{name}", "/v1/notice"}
    for operation in (found for path in document["paths"].values() for found in path.values()):
        assert operation["summary"]
        assert all(answer["description"] for answer in operation["responses"].values())
    reading = client.get("/v1/reading").json()
    whole = {**shapes["reading"], "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(reading)


def references_in(document: object) -> Iterator[str]:
    if isinstance(document, dict):
        if isinstance(document.get("$ref"), str):
            yield document["$ref"]
        for value in document.values():
            yield from references_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from references_in(value)


def test_what_is_not_there_is_said_in_a_sentence(client: httpx.Client) -> None:
    missing = client.get("/v1/nothing")
    assert missing.status_code == 404
    assert missing.json() == {"error": "there is no /v1/nothing; /openapi.json lists what there is"}
    wrong = client.post("/v1/reading")
    assert wrong.status_code == 405
    assert "POST does not work on /v1/reading" in wrong.json()["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "JSON decode error"),
        (b"{}", "body.muted: Field required"),
        (b'{"muted": "yes"}', "valid boolean"),
        (b'{"muted": true, "loud": 1}', "body.loud: Extra inputs"),
    ],
)
def test_malformed_orders_are_refused_in_a_sentence(client: httpx.Client, body: bytes, said: str) -> None:
    answer = client.put("/v1/modalities/audio", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_an_unknown_modality_is_refused_with_those_that_there_are(client: httpx.Client) -> None:
    answer = client.put("/v1/modalities/smell", json={"muted": True})
    assert answer.status_code == 404
    assert answer.json()["error"] == "there is no modality 'smell'; this model has: audio, video, text"


def test_no_notice_was_given_so_none_can_be_acknowledged(client: httpx.Client) -> None:
    for answer in (client.put("/v1/notice", json={"by": "me"}), client.delete("/v1/notice")):
        assert answer.status_code == 400
        assert "edgeemo serve --notice TEXT" in answer.json()["error"]


def test_prometheus_reads_the_figures(client: httpx.Client, page: Served) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    states = {
        (sample.labels["modality"], sample.labels["state"]): sample.value
        for sample in families["edgeemo_modality_state"].samples
    }
    assert states["text", "absent"] == 1.0
    assert states["text", "live"] == 0.0
    assert len(states) == 3 * 6
    assert families["edgeemo_ready"].samples[0].value == 1.0
    assert families["edgeemo_hops"].samples[0].value > 0
    assert families["edgeemo_late_hops"].samples[0].value == page.hub.stats.late_hops
    assert {sample.labels["quantile"] for sample in families["edgeemo_latency_ms"].samples} == {
        "0.50", "0.95", "0.99",
    }  # fmt: skip
    chunks = {sample.labels["modality"]: sample.value for sample in families["edgeemo_sensor_chunks"].samples}
    assert chunks["audio"] > 0
    assert "python_gc_objects_collected" not in families  # its own registry, nothing of the process's


def test_the_preview_is_the_cameras_picture_and_goes_black_when_it_is_muted() -> None:
    with served([PatternCamera(size=(64, 48))], preview=True) as server, server.client() as client:
        wait_for(lambda: server.taps["video"].newest_frame()[1] is not None, "a picture")
        with client.stream("GET", "/v1/preview") as answer:
            assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
            pictures = pictures_in(answer)
            assert next(pictures).mean() > 30
            client.put("/v1/modalities/video", json={"muted": True})
            while next(pictures).mean() > 5:
                pass


def test_a_viewer_that_takes_no_picture_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeemo.serve.address._SEND_BUFFER", 4096)
    camera = PatternCamera(fps=30.0, size=(640, 480))
    with served([camera], preview=True, send_deadline_s=0.5) as server, socket.socket() as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        viewer.settimeout(20.0)
        viewer.connect(("127.0.0.1", server.port))
        viewer.sendall(f"GET /v1/preview HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert server.server.application is not None
        preview = server.server.application.preview
        assert preview is not None
        wait_for(lambda: preview.viewers == 1, "a viewer")
        wait_for(lambda: preview.viewers == 0, "none any more")
        with suppress(ConnectionResetError):
            while viewer.recv(4096):
                pass


def pictures_in(answer: httpx.Response) -> Iterator[Any]:
    cv2 = load_cv2()
    data = b""
    for piece in answer.iter_raw():
        data += piece
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = int(head.rpartition(b"Content-Length: ")[2])
            if len(rest) < length + 2:
                break
            yield cv2.imdecode(np.frombuffer(rest[:length], np.uint8), cv2.IMREAD_COLOR)
            data = rest[length + 2 :]


def test_there_is_no_preview_unless_it_is_asked_for() -> None:
    with served([PatternMicrophone()]) as server, server.client() as client:
        answer = client.get("/v1/preview")
        assert answer.status_code == 404
        assert answer.json()["error"] == "the preview is off; start with: edgeemo serve --preview"


def state_of_audio(client: httpx.Client) -> str:
    states = client.get("/v1/reading").json().get("states", {})
    return str(states["audio"]["state"]) if states else ""


def test_mute_closes_the_device_and_unmute_opens_it_again() -> None:
    microphone = Switchable()
    with served([microphone]) as server, server.client() as client:
        assert microphone.is_open()
        answer = client.put("/v1/modalities/audio", json={"muted": True})
        assert answer.json() == {"modality": "audio", "muted": True}
        assert not microphone.is_open()
        wait_for(lambda: state_of_audio(client) == "muted", "a muted reading")
        assert server.hub.muted == {"audio"}
        client.put("/v1/modalities/audio", json={"muted": False})
        assert microphone.is_open()
        assert (microphone.opened, microphone.closed) == (2, 1)


def test_a_driver_that_takes_its_time_to_close_holds_up_nobody_else() -> None:
    microphone = Switchable()
    with served([microphone], settings={"hop_s": 0.1}) as server, server.client() as client:
        microphone.holds_close.clear()
        muting = threading.Thread(
            target=lambda: httpx.put(f"{server.url}v1/modalities/audio", json={"muted": True}, timeout=30)
        )
        muting.start()
        try:
            wait_for(lambda: state_of_audio(client) == "muted", "a muted reading")
            hops = client.get("/v1/stats").json()["hops"]
            wait_for(lambda: client.get("/v1/stats").json()["hops"] > hops + 3, "readings go on")
            assert microphone.is_open()
        finally:
            microphone.holds_close.set()
            muting.join(20.0)
        assert not microphone.is_open()


def test_who_else_wants_readings_gets_them_and_who_else_mutes_is_seen() -> None:
    got: list[Reading] = []

    def take(reading: Reading) -> None:
        got.append(reading)
        if len(got) == 2:
            raise RuntimeError("this one fails")

    with served([Switchable()], on_reading=take, settings={"hop_s": 0.1}) as server:
        wait_for(lambda: len(got) > 3, "readings after one that failed")
        assert server.hub.why_not_ready() == ""
        server.hub.session.mute("audio")
        wait_for(lambda: server.hub.muted == {"audio"}, "a mute from elsewhere")
        server.hub.session.unmute("audio")
        wait_for(lambda: not server.hub.muted, "the end of it")


def test_nothing_opens_before_the_notice_is_acknowledged_and_all_closes_when_it_is_withdrawn() -> None:
    microphone = Switchable()
    with served([microphone], notice="You are being sensed.") as server, server.client() as client:
        assert client.get("/healthz").status_code == 200
        waiting = client.get("/readyz")
        assert waiting.status_code == 503
        assert "nobody has acknowledged the notice" in waiting.json()["why"]
        assert client.get("/v1/reading").status_code == 503
        assert not microphone.is_open()
        assert client.put("/v1/notice", json={"by": " "}).status_code == 400
        assert client.put("/v1/notice", json={"by": ""}).status_code == 422
        assert not microphone.is_open()

        given = client.put("/v1/notice", json={"by": "a visitor"})
        assert given.json() == {"text": "You are being sensed.", "acknowledged": True, "by": "a visitor"}
        assert microphone.is_open()
        wait_for(lambda: client.get("/readyz").status_code == 200, "readings")
        client.put("/v1/notice", json={"by": "somebody else"})
        assert (microphone.opened, microphone.closed) == (1, 0)

        assert client.delete("/v1/notice").json()["acknowledged"] is False
        assert not microphone.is_open()
        assert client.get("/v1/reading").status_code == 503
        assert json.loads(server.hub.hello())["history"] == []

        client.put("/v1/notice", json={"by": "the next visitor"})
        assert microphone.is_open()
        wait_for(lambda: client.get("/readyz").status_code == 200, "readings again")
        kinds = [event["kind"] for event in client.get("/v1/events").json()["events"]]
        assert kinds.count("notice_acknowledged") == 2


def test_a_session_that_fails_is_told_and_the_server_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with served([PatternMicrophone()]) as server, server.client() as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, "readings")
        session = server.hub.session

        def fail(*args: object) -> None:
            raise RuntimeError("the engine burnt down")

        monkeypatch.setattr(session._core, "read", fail)
        wait_for(lambda: client.get("/readyz").status_code == 503, "the end")
        assert client.get("/readyz").json()["why"] == "the session failed: the engine burnt down"
        assert client.get("/healthz").status_code == 200
        assert client.put("/v1/modalities/audio", json={"muted": True}).status_code == 503


def test_a_session_that_stalls_is_not_ready(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    hub: Hub = page.hub
    monkeypatch.setattr("edgeemo.serve.hub._LATE_HOPS", 0)
    assert "s old, one comes every 0.5 s" in hub.why_not_ready()


def test_closing_ends_the_session_and_its_devices() -> None:
    microphone = Switchable()
    with served([microphone]) as server:
        assert microphone.is_open()
    assert not microphone.is_open()
    assert server.hub.ended == "the server was stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}healthz")
