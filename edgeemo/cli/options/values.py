"""Values that argparse cannot read by itself: drops, seconds, settings."""

from __future__ import annotations

import argparse
import math
from typing import Any

from edgeemo.errors import InputError
from edgeemo.sensors.drop import Drop, parse_drop


def drop(text: str) -> Drop:
    """Parses ``MODALITY@FROM-TO`` for argparse; which modalities there are, the model says."""
    try:
        return parse_drop(text, None)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seconds(text: str) -> float:
    """Parses a positive number of seconds for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def setting(text: str) -> tuple[str, Any]:
    """Parses ``NAME=VALUE`` for argparse: a number where it reads as one, ``none``, or a word."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; write NAME=VALUE, for example hop_s=0.25")
    if value == "none":
        return name, None
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value
