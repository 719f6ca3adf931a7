"""How exactly ARKit's blendshape weights become a head's expression and come back.

python scripts/benchmarks/arkit_units.py [--faces 200] [--seed 0] [--head-model PATH] [--picture units.png]

Each unit alone at weight 1, then faces of one to four actions of weight 0.2 … 0.8, both sides of a face alike:
weights → coefficients → weights. Prints a Markdown table: mm that the coefficients leave of the units' displacement
(root mean square over the face, and beside it the displacement), and the weights' error after the round trip.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--faces", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head-model", type=Path, metavar="PATH", help="default: the open head")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="each unit on the mean head")
    flags = parser.parse_args()

    import numpy as np

    import flame_jax
    from n2f_jax.face_mesh.arkit_names import UNITS
    from n2f_jax.fitting.arkit import ArkitUnits
    from n2f_jax.fitting.correspondence_cache import kept_correspondence

    open_head = flame_jax.load_open_head()
    try:
        if flags.head_model is None:
            model, units = open_head, ArkitUnits.of_open_head(open_head)
        else:
            model = flame_jax.load_head_model(flags.head_model)
            found = kept_correspondence(open_head, model, flags.head_model)
            units = ArkitUnits.of_model(model, open_head, found)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    offsets, share = np.asarray(units.offsets, np.float64), np.asarray(units.weights, np.float64)

    def moved_mm(weights):
        sums = np.einsum("bu,unc->bnc", weights, offsets)
        return 1e3 * np.sqrt((share * (sums**2).sum(axis=-1)).sum(axis=-1))

    single = np.eye(len(UNITS))
    params, left = units.to_params(single)
    back, _ = units.to_weights(params)
    print(f"{model.name}, {len(share)} points of the face\n")
    print(
        "| unit | moves the face by, mm | left, mm | weight that comes back | largest other |\n|---|---|---|---|---|"
    )
    for number, name in enumerate(UNITS):
        own, others = back[number, number], np.delete(back[number], number)
        moves = moved_mm(single[number : number + 1])[0]
        print(f"| {name} | {moves:.2f} | {left[number]:.2f} | {own:.2f} | {others.max():.2f} |")
    faces = random_faces(flags.faces, flags.seed)
    mixed, left = units.to_params(faces)
    again, _ = units.to_weights(mixed)
    error = np.abs(again - faces)
    print(
        f"\n{flags.faces} faces: moved by {moved_mm(faces).mean():.2f} mm, of which {left.mean():.2f} are left; "
        f"weights off by {error[faces > 0].mean():.3f} where they are not 0, by {error[faces == 0].mean():.3f} where "
        "they are"
    )
    if flags.picture:
        draw(model, params, flags.picture)
        print(f"picture: {flags.picture}")
    return 0


def random_faces(count: int, seed: int):
    """(N, 51) weights."""
    import numpy as np

    from n2f_jax.face_mesh.arkit_names import UNITS

    rng = np.random.default_rng(seed)
    stems = sorted({name.removesuffix("Left").removesuffix("Right") for name in UNITS})
    faces = np.zeros((count, len(UNITS)))
    for face in faces:
        for stem in rng.choice(stems, size=rng.integers(1, 5), replace=False):
            weight = rng.uniform(0.2, 0.8)
            # To one side or the other, and not to both.
            sides = [rng.choice(["Left", "Right"])] if stem in ("jaw", "mouth") else ["", "Left", "Right"]
            for side in sides:
                if stem + side in UNITS:
                    face[UNITS.index(stem + side)] = weight
    return faces


def draw(model, params, path: Path) -> None:
    """Every unit at weight 1 from the front, lit from above."""
    import cv2
    import jax
    import jax.numpy as jnp
    import numpy as np

    import flame_jax
    from n2f_jax.face_mesh.arkit_names import UNITS
    from n2f_jax.geometry.camera import FRONTAL, Camera
    from n2f_jax.render import HeadTopology, render_head

    size, count = 160, len(UNITS)
    camera = Camera(
        jnp.broadcast_to(jnp.asarray(FRONTAL, jnp.float32), (count, 3, 3)),
        jnp.broadcast_to(jnp.asarray([0.0, -0.02, 1.0]), (count, 3)),
        jnp.full(count, 5.6 * size),
        jnp.full((count, 2), size / 2.0),
    )
    vertices, _ = jax.jit(flame_jax.decode)(model, params)
    topology = HeadTopology.from_model(model)
    normals = jax.jit(lambda v, c: render_head(topology, v, c, size, "head").normals)(vertices, camera)
    light = np.array([0.3, 0.5, 0.8]) / np.linalg.norm([0.3, 0.5, 0.8])
    cells = []
    for name, normal in zip(UNITS, np.asarray(normals), strict=True):
        shown = np.abs(normal).max(axis=-1) > 0
        cell = np.where(shown, 40 + 200 * np.clip(normal @ light, 0, 1), 255).astype(np.uint8)
        cell = np.ascontiguousarray(cell)
        cv2.putText(cell, name, (4, 154), cv2.FONT_HERSHEY_SIMPLEX, 0.38, 0, 1, cv2.LINE_AA)
        cells.append(cell)
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % 9)
    cv2.imwrite(str(path), np.vstack([np.hstack(cells[i : i + 9]) for i in range(0, len(cells), 9)]))


if __name__ == "__main__":
    sys.exit(main())
