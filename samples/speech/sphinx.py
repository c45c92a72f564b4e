"""PocketSphinx as a function: less exact than the others, but its package brings a model."""

from __future__ import annotations

from collections.abc import Callable


def open_pocketsphinx(model: str | None) -> Callable[[bytes], str]:
    """Returns a recogniser as those of recognizers.py; `model` None means American English."""
    import pocketsphinx

    decoder = pocketsphinx.Decoder(**({"hmm": model} if model else {}), loglevel="FATAL")
    endpointer, waiting = pocketsphinx.Endpointer(), bytearray()

    def recognize(data: bytes) -> str:
        waiting.extend(data)
        words = []
        while len(waiting) >= endpointer.frame_bytes:
            spoke = endpointer.in_speech
            speech = endpointer.process(bytes(waiting[: endpointer.frame_bytes]))
            del waiting[: endpointer.frame_bytes]
            if speech is None:
                continue
            if not spoke:
                decoder.start_utt()
            decoder.process_raw(speech)
            if not endpointer.in_speech:
                decoder.end_utt()
                words.append(decoder.hyp().hypstr if decoder.hyp() else "")
        return " ".join(words).strip()

    return recognize
