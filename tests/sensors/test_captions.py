from __future__ import annotations

from pathlib import Path

import pytest

from edgeemo.errors import InputError
from edgeemo.sensors import Caption, parse_srt, read_srt
from edgeemo.sensors.recordings.captions import chunks_from_captions

GOOD = """1
00:00:01,000 --> 00:00:02,500
Hello there,
how are you?

2
01:00:00,250 --> 01:00:01,000
{\\an8}<i>Fine</i>.
"""
EXPECTED = [Caption(1.0, 2.5, "Hello there, how are you?"), Caption(3600.25, 3601.0, "Fine .")]


def test_captions_are_read_with_times_and_without_markup() -> None:
    assert parse_srt(GOOD) == EXPECTED


@pytest.mark.parametrize(
    "variant",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace(",000", ".000"),
        GOOD.removesuffix("\n"),
        GOOD.replace("1\n00:00:01", "00:00:01").replace("2\n01", "01"),
        GOOD.replace("?\n\n2", "?\n2"),
        GOOD.replace("2,500", "2,5   X1:10 X2:20"),
        GOOD + "\n3\n00:00:09,000 --> 00:00:10,000\n<b></b>\n",
    ],
    ids=["crlf", "bom", "dots", "no-last-newline", "no-counters", "no-blank", "positions", "wordless"],
)
def test_what_players_forgive_is_forgiven(variant: str) -> None:
    assert parse_srt(variant) == EXPECTED


def test_captions_come_in_the_order_of_their_times() -> None:
    swapped = "00:00:05,000 --> 00:00:06,000\nlater\n\n00:00:01,000 --> 00:00:02,000\nearlier\n"
    chunks = list(chunks_from_captions(parse_srt(swapped)))
    assert [(c.modality, c.time_s, c.text) for c in chunks] == [
        ("text", 1.0, "earlier"),
        ("text", 5.0, "later"),
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no captions found; expected SubRip lines"),
        ("just some words\n", "no captions found"),
        ("1\n00:00:0x,000 --> 00:00:02,000\nhi\n", r"line 2: .* is not a timing such as"),
        (
            "1\n00:00:03,000 --> 00:00:02,000\nhi\n",
            r"line 2: the caption ends at 2 s, before it starts at 3 s",
        ),
    ],
)
def test_bad_captions_name_the_line(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_srt(source)


def test_files_in_either_encoding_are_read(tmp_path: Path) -> None:
    text = "00:00:01,000 --> 00:00:02,000\nschöne Grüße\n"
    for encoding in ("utf-8", "utf-8-sig", "cp1252"):
        (tmp_path / "a.srt").write_bytes(text.encode(encoding))
        assert read_srt(tmp_path / "a.srt") == [Caption(1.0, 2.0, "schöne Grüße")]


def test_missing_binary_and_enormous_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"captions .*none\.srt cannot be read: No such file"):
        read_srt(tmp_path / "none.srt")
    (tmp_path / "noise.srt").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(InputError, match=r"noise\.srt: no captions found"):
        read_srt(tmp_path / "noise.srt")
    with (tmp_path / "huge.srt").open("wb") as huge:
        huge.truncate(17 * 1024 * 1024)
    with pytest.raises(InputError, match="captions of at most 16777216 are read"):
        read_srt(tmp_path / "huge.srt")
