"""How much of a known expression comes out of a picture, and how much leaks into pose and identity.

    git clone https://github.com/ICT-VGL/ICT-FaceKit
    python scripts/benchmarks/expressions.py --model ICT-FaceKit/FaceXModel [--persons 2] [--refine 0 2]

People of one half of the outside set, whose heads are not ours, in one light, from the front: at rest, and with each
of 18 shapes alone at weight 1 (both sides of a face alike). The pictures go through the free front end and the network.
For each shape, against the same person's picture at rest:

- movement: the 468 points' in the head frame, along the true one, over the true one (least squares; 1 is right);
- left: mean distance between the points' movement and the true one, over the mean true one (a head without expression
  leaves 1);
- neutral: how far the neutral head's face moves, which should not, mm (mean over the face, rigidly aligned);
- turned: how far the head turns, which does not, degrees;
- image: the movement in the picture, likewise, of the head and (front end) of the points that the front end finds.

Prints a Markdown table: medians over the people, by shape, and over all.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "build"))

from make_ict_heads import GROUPS, HEADS, SEED

# A shape's name → the model's expressions that make it.
SHAPES = {
    name: tuple(f"{name}_{side}" for side in "LR") if two else (name,)
    for name, two in {
        "browDown": True,
        "browInnerUp": True,
        "browOuterUp": True,
        "cheekPuff": True,
        "eyeBlink": True,
        "eyeSquint": True,
        "eyeWide": True,
        "jawLeft": False,
        "jawOpen": False,
        "jawRight": False,
        "mouthFrown": True,
        "mouthFunnel": False,
        "mouthLeft": False,
        "mouthPucker": False,
        "mouthShrugUpper": False,
        "mouthSmile": True,
        "mouthStretch": True,
        "noseSneer": True,
    }.items()
}
_SIDE = 512
_FOCAL = 900.0
_DISTANCE = 0.6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="FaceXModel, or an .npz")
    parser.add_argument("--persons", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--refine", type=int, nargs="+", default=[0, 2], metavar="N", help="Gauss–Newton steps"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: what ships")
    parser.add_argument(
        "--group", choices=GROUPS, default="reporting", help="half of the set; default: %(default)s"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="keep the pictures here, and take those that are there"
    )
    flags = parser.parse_args()

    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    import flame_jax
    from n2f_jax.benchmark.face_renders import FaceRenderer
    from n2f_jax.benchmark.ict_facekit import load_ict_facekit
    from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
    from n2f_jax.geometry.alignment import procrustes
    from n2f_jax.geometry.camera import FRONTAL, Camera, project_points
    from n2f_jax.reconstruction import Reconstructor
    from n2f_jax.visualization.portrait import portrait, random_look

    try:
        renderer = FaceRenderer(load_ict_facekit(flags.model), SEED)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if flags.pictures:
        flags.pictures.mkdir(parents=True, exist_ok=True)
    model = flame_jax.load_open_head()
    face = np.asarray(model.masks["face"])
    mesh = load_coarse_mesh()
    corners = np.asarray(model.faces)[mesh.embedding_faces]

    intrinsics = np.array([[_FOCAL, 0, _SIDE / 2], [0, _FOCAL, _SIDE / 2], [0, 0, 1]])

    def project(points, rotation, translation):
        return project_points(points @ rotation.T + translation, intrinsics)

    def points_on(vertices):
        return np.einsum("nkc,nk->nc", vertices[corners], mesh.embedding_barycentric)

    def neutral_of(head):
        params = dataclasses.replace(
            flame_jax.FlameParams.neutral(model), shape=head.shape.astype(np.float32)
        )
        return np.asarray(flame_jax.decode(model, params)[0])[face]

    def drawn(person, name, parts):
        """The picture and the true 468 points in the head frame."""
        path = flags.pictures / f"{person:03d}_{name}" if flags.pictures else None
        if path and path.with_suffix(".npy").exists():
            return np.array(Image.open(path.with_suffix(".png"))), np.load(path.with_suffix(".npy"))
        rest, _, _ = renderer.expressed(renderer.rest(person), {}, np.zeros(2))
        middle = FRONTAL @ renderer.places(rest).landmarks[17:].mean(axis=0)
        shape, gaze, _ = renderer.expressed(renderer.rest(person), dict.fromkeys(parts, 1.0), np.zeros(2))
        placed, points, _ = renderer.places(shape)
        camera = Camera(
            FRONTAL, np.array([0, 0, _DISTANCE]) - middle, np.float64(_FOCAL), np.full(2, _SIDE / 2)
        )
        look = random_look(np.random.default_rng([SEED, person]), "skin")
        image = portrait(shape, camera, _SIDE, look, renderer.paint(shape, placed, gaze))
        known = np.concatenate([points, project(points, camera.rotation, camera.translation)], axis=1)
        if path:
            Image.fromarray(image).save(path.with_suffix(".png"))
            np.save(path.with_suffix(".npy"), known)
        return image, known

    def projected(head):
        return project(points_on(head.vertices), head.rotation, head.translation)

    def distance(offsets):
        return float(np.linalg.norm(offsets, axis=-1).mean())

    def along(moved, true):
        return float((moved * true).sum() / (true**2).sum())

    first = HEADS // 2 if flags.group == "reporting" else 0
    persons = range(first, first + flags.persons)
    pictures = {}
    for person in tqdm(persons, desc="pictures"):
        for name, parts in {"rest": (), **SHAPES}.items():
            pictures[person, name] = drawn(person, name, parts)
    for steps in flags.refine:
        reconstructor = Reconstructor.from_pretrained(flags.checkpoint, refine=steps)
        found = reconstructor.reconstruct(
            [image for image, _ in pictures.values()], focals=[_FOCAL] * len(pictures)
        )
        heads = {key: heads[0] for key, heads in zip(pictures, found, strict=True) if heads}
        rows = {name: [] for name in SHAPES}
        for person, name in pictures:
            if name == "rest" or (person, name) not in heads or (person, "rest") not in heads:
                continue
            head, rest = heads[person, name], heads[person, "rest"]
            true = pictures[person, name][1] - pictures[person, "rest"][1]
            moved = points_on(head.vertices) - points_on(rest.vertices)
            seen = along(projected(head) - projected(rest), true[:, 3:])
            front_end = along((head.frontend_points - rest.frontend_points)[:, :2], true[:, 3:])
            neutral, before = neutral_of(head), neutral_of(rest)
            aligned = np.asarray(procrustes(neutral, before).apply(neutral))
            off = 1000 * np.linalg.norm(aligned - before, axis=-1).mean()
            cosine = (np.trace(head.rotation @ rest.rotation.T) - 1) / 2
            turned = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
            left = distance(moved - true[:, :3]) / distance(true[:, :3])
            rows[name].append((along(moved, true[:, :3]), left, seen, front_end, off, turned))
        print(f"\n{flags.persons} people, {steps} steps\n")
        print(
            "| shape | movement | left | image | front end | neutral, mm | turned |\n|---|---|---|---|---|---|---|"
        )
        line = "| {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.1f}° |"
        for name, row in rows.items():
            if row:
                print(line.format(name, *np.median(row, axis=0)))
        together = [row for each in rows.values() for row in each]
        print(line.format("**median of all**", *np.median(together, axis=0)))
        print(
            "| largest | | | | | {:.2f} | {:.1f}° |".format(*np.max([row[-2:] for row in together], axis=0))
        )
        missed = len(pictures) - len(heads)
        if missed:
            print(f"\nno face found in {missed} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
