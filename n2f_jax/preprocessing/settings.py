"""What one preprocessed folder is made with, the same for all processes that fill it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from n2f_jax.frontends.registry import FrontendOptions
from n2f_jax.runtime.atomic_files import write_text
from n2f_jax.runtime.json_values import parse_json

FILE = "settings.json"
FORMAT = "n2f-jax/preprocessed"


class SettingsError(ValueError):
    """Settings that contradict each other or those that the folder was begun with; the message says which."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How faces are made of photographs.

    Attributes:
        frontend: its name (``n2f_jax.frontends.FRONTENDS``).
        options: the front end's files and device. ``size`` and ``crop_scale`` in it are the network's, as a checkpoint
            records them; ``max_faces`` the largest faces of each photo, None for all.
        margin: side of the stored square over that of the network's crop. The rest lets crops move in training, and
            be cut on other landmarks than the front end's.
        focal: in pixels of the original, for all photos; None for EXIF, else 1.2·max(H, W).
        frame_step: of a video every n-th frame.
    """

    frontend: str = "face_mesh"
    options: FrontendOptions = dataclasses.field(default_factory=lambda: FrontendOptions(max_faces=1))
    margin: float = 1.25
    focal: float | None = None
    frame_step: int = 1

    def __post_init__(self):
        if self.margin < 1:
            raise SettingsError(
                f"the margin is at least 1, not {self.margin}: a stored face holds the network's crop"
            )
        if self.frame_step < 1:
            raise SettingsError(f"frame_step is at least 1, not {self.frame_step}")
        if self.focal is not None and not self.focal > 0:
            raise SettingsError(f"a focal length is a positive number of pixels, not {self.focal}")

    @property
    def stored_size(self) -> int:
        """Side of the stored maps: the network's and the same number of whole pixels on either side."""
        size = self.options.size
        return size + 2 * round(0.5 * size * (self.margin - 1))

    @property
    def frontend_options(self) -> FrontendOptions:
        """What the front end is asked for: the network's pixels, more of them."""
        scale = self.options.crop_scale * self.stored_size / self.options.size
        return dataclasses.replace(self.options, size=self.stored_size, crop_scale=scale)

    def description(self) -> dict[str, Any]:
        """What decides the stored faces, apart from the front end's own files, which each face records."""
        return {
            "format": FORMAT,
            "frontend": self.frontend,
            "size": self.options.size,
            "crop_scale": self.options.crop_scale,
            "stored_size": self.stored_size,
            "max_faces": self.options.max_faces,
            "focal": self.focal,
            "frame_step": self.frame_step,
        } | ({} if self.options.landmarks == "v1" else {"landmarks": self.options.landmarks})


def settle(folder: Path, settings: Settings) -> None:
    """Writes the settings of a new folder; checks them against those that it was begun with.

    Many processes may do this at once.

    Raises:
        SettingsError: they differ; the message says in what.
    """
    text = json.dumps(settings.description(), indent=2) + "\n"
    path = folder / FILE
    if not path.exists():
        write_text(path, text)
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise SettingsError(f"{path} is damaged: {error}") from error
    wanted = settings.description()
    changed = [
        f"{name}: {found.get(name)} there, {wanted.get(name)} now"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if changed:
        raise SettingsError(
            f"{folder} was begun with other settings; take another --out, or the same settings:\n  "
            + "\n  ".join(changed)
        )
