"""The cameras that Linux knows of, read from /dev and /sys without opening any."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VideoNode:
    """One camera: its number (N of /dev/videoN), its name, and the path that survives renumbering."""

    number: int
    name: str
    stable_path: str | None = None


def list_video_nodes(root: Path = Path("/")) -> list[VideoNode]:
    """Returns the cameras in order of their numbers; empty where there are none, or the system is not Linux.

    A camera has several nodes; only the first of each (``index`` 0) gives pictures, the others metadata.

    Args:
        root: the folder that holds ``dev`` and ``sys``.
    """
    stable = _stable_paths(root / "dev" / "v4l" / "by-id")
    nodes = []
    for path in (root / "dev").glob("video*"):
        match = re.fullmatch(r"video(\d+)", path.name)
        about = root / "sys" / "class" / "video4linux" / path.name
        if match and _text(about / "index") in ("", "0"):
            name = _text(about / "name") or path.name
            nodes.append(VideoNode(int(match[1]), name, stable.get(path.name)))
    return sorted(nodes, key=lambda node: node.number)


def _stable_paths(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    return {link.resolve().name: str(link) for link in sorted(folder.iterdir(), reverse=True)}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
