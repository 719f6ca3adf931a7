"""What is lost where the network's answer is carried over to another head model: heads as meshes, from clean maps.

    python scripts/benchmarks/head_models.py outside --head-model FLAME2020/ --head-model gnm/ [--heads 20]

Each head of a benchmark of meshes (scripts/make_benchmark.py --meshes) is reconstructed from its clean maps in the open
head and in every model named, without refinement and with it; distances are those of the protocol `surface` from the
true mesh. The last column is the paired difference from the open head's own answer with as many steps. Needs libigl
(the extra `evaluation`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from flame_jax import HeadModel, landmarks68
from n2f_jax.benchmark.files import read_settings
from n2f_jax.benchmark.open_heads import StoredHeads
from n2f_jax.benchmark.tables import interval
from n2f_jax.evaluation.landmarks3d import SEVEN_OF_68
from n2f_jax.evaluation.surface import measure
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.metrics.skin import visible_vertices
from n2f_jax.reconstruction.reconstructor import Reconstructor

BATCH = 4
OPEN = "open head"


def heads_of(reconstructor: Reconstructor, stored: StoredHeads) -> list[np.ndarray]:
    """Vertices of every head, by batches."""
    found: list[np.ndarray] = []
    for start in range(0, len(stored), BATCH):
        numbers = [min(start + k, len(stored) - 1) for k in range(BATCH)]
        crops = [stored.crops(number) for number in numbers]
        batch = jax.tree.map(lambda *x: jnp.concatenate([jnp.asarray(one) for one in x]), *crops)
        nowhere = jnp.full((BATCH, 468, 3), jnp.nan)
        predicted = reconstructor.predict(
            batch.face_normals, batch.mask, batch.focal, batch.principal_point, batch.landmarks, nowhere
        )
        found += list(np.asarray(predicted.vertices, np.float64))
    return found[: len(stored)]


def surface_distances(
    model: HeadModel, heads: list[np.ndarray], folder: Path, names: list[str]
) -> np.ndarray:
    """``(heads, 2)`` mm of the true face from what can be seen of the model: rigidly aligned, and up to scale."""
    faces = np.asarray(model.faces, np.int64)
    faces = faces[np.isin(faces, visible_vertices(model)).all(axis=1)]
    rows = []
    for name, vertices in zip(names, heads, strict=True):
        truth = read_mesh(folder / f"heads/{name}.ply")
        marks = np.load(folder / f"heads/{name}.npy", allow_pickle=False)[list(SEVEN_OF_68)]
        with np.load(folder / f"heads/{name}.regions.npz", allow_pickle=False) as regions:
            face = {"face": regions["face"]}
        own = np.asarray(landmarks68(model, np.asarray(vertices, np.float32)), np.float64)[list(SEVEN_OF_68)]
        skin = Surface(clean(TriangleMesh(vertices, faces), name)[0])
        figures = measure(skin, own, truth, marks, face).figures
        rows.append([figures["face/metric_mm"], figures["face/scaled_mm"]])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of scripts/make_benchmark.py --meshes")
    parser.add_argument("--head-model", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--heads", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--group", default="reporting", help="default: %(default)s")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[0, 12], help="of Gauss–Newton; default: 0 12"
    )
    flags = parser.parse_args()
    names = [
        row["name"]
        for row in read_settings(flags.folder)["controlled"]
        if row["name"].startswith(f"{flags.group}/")
    ][: flags.heads]
    stored = StoredHeads(flags.folder, "clean", names)
    print("| model | steps | face, metric | face, scaled | less the open head's, metric |")
    print("|---|---|---|---|---|")
    base: dict[int, np.ndarray] = {}
    for path in [None, *flags.head_model]:
        for steps in flags.steps:
            reconstructor = Reconstructor.from_pretrained(
                None, path, None, refine=steps, batch_size=BATCH, maps="normals"
            )
            model = reconstructor.head_model
            figures = surface_distances(model, heads_of(reconstructor, stored), flags.folder, names)
            less = ""
            if path is None:
                base[steps] = figures
            else:
                less = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval(figures[:, 0] - base[steps][:, 0]))
            name = OPEN if path is None else model.name
            metric, scaled = figures.mean(axis=0)
            print(f"| {name} | {steps} | {metric:.2f} | {scaled:.2f} | {less} |", flush=True)


if __name__ == "__main__":
    main()
