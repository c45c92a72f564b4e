"""What a Jetson says about itself: model, L4T, JetPack, power mode, read from its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

JETPACK_OF_L4T = {"32": "4", "35": "5", "36": "6", "38": "7"}
"""Major release of L4T -> of JetPack (NVIDIA's JetPack archive)."""


@dataclass(frozen=True)
class Jetson:
    """One Jetson.

    Attributes:
        model: such as ``NVIDIA Jetson Orin Nano Developer Kit``.
        l4t: release of Linux for Tegra, such as ``36.4.3``; empty where no file says so.
        jetpack: such as ``6.2``, or the major release alone where only L4T is known; may be empty.
        power_mode: number of the mode in use, as nvpmodel keeps it; empty where it is not known.
    """

    model: str
    l4t: str
    jetpack: str
    power_mode: str


def find_jetson(root: Path = Path("/")) -> Jetson | None:
    """Returns what the device tree and the release files say; None where this is no Jetson.

    Args:
        root: the folder that holds ``proc``, ``etc`` and ``var``.
    """
    model = _text(root / "proc" / "device-tree" / "model").strip("\0\n ")
    release = _text(root / "etc" / "nv_tegra_release")
    if "jetson" not in model.casefold() and not release:
        return None
    found = re.search(r"R(\d+)\D+REVISION:\s*([\d.]+)", release)
    l4t = f"{found[1]}.{found[2]}" if found else ""
    status = _text(root / "var" / "lib" / "dpkg" / "status")
    package = re.search(r"^Package: nvidia-jetpack$(?:\n(?!\n).*)*?\nVersion: ([\d.]+)", status, re.MULTILINE)
    jetpack = package[1] if package else JETPACK_OF_L4T.get(l4t.split(".", maxsplit=1)[0], "")
    mode = re.search(r"pmode:0*(\d+)", _text(root / "var" / "lib" / "nvpmodel" / "status"))
    return Jetson(model or "NVIDIA Jetson", l4t, jetpack, mode[1] if mode else "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
