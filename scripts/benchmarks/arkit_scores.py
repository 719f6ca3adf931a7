"""Which weights of ARKit's blendshapes are better, those of the fitted expression or the front end's own scores.

    git clone https://github.com/ICT-VGL/ICT-FaceKit
    python scripts/benchmarks/arkit_scores.py --model ICT-FaceKit/FaceXModel --renders renders --out results

Pictures of the ICT model's heads (people of the reporting half), whose expressions are ARKit's units by name, so that
every weight is known: one or two actions of weight 0.3 … 1, both sides alike, near to frontal. Drawn once (a second
each) into --renders. On each picture: *photo*, what `n2f reconstruct` finds; *track*, the fit of `n2f track` and
`n2f live` with one identity from all of a person's pictures; *scores*, the front end's.

By action: slope and correlation of the weight found against the true one over all pictures, and the root mean square
error; of all units together also the error where the truth is 0, and where it is not. Gaze is left out: it is the front
end's in either case.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ACTIONS = (
    *(
        "jawOpen",
        "jawLeft",
        "mouthLeft",
        "mouthFunnel",
        "mouthPucker",
        "mouthSmile",
        "mouthFrown",
        "mouthStretch",
    ),
    *("mouthUpperUp", "mouthLowerDown", "mouthPress", "browDown", "browInnerUp", "browOuterUp", "eyeBlink"),
    *("eyeSquint", "eyeWide", "cheekPuff", "noseSneer"),
)
FIRST_PERSON = 50  # of the reporting half
SIDE = 320  # pixels
WAYS = ("photo", "track", "scores")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="FaceXModel, or an .npz")
    parser.add_argument("--renders", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument("--people", type=int, default=12, metavar="N", help="default: %(default)s")
    parser.add_argument("--pictures", type=int, default=20, metavar="N", help="of each; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where arkit_scores.json goes")
    flags = parser.parse_args()
    from n2f_jax.runtime.threads import use_one_thread

    use_one_thread()
    try:
        pictures = draw(flags.model, flags.renders, flags.people, flags.pictures)
        figures = measure(pictures)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
        (flags.out / "arkit_scores.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def units_of(action: str) -> list[str]:
    """ARKit's names of an action: itself, or its two sides."""
    from n2f_jax.face_mesh.arkit_names import UNITS

    return [name for name in (action, f"{action}Left", f"{action}Right") if name in UNITS]


def draw(
    model: Path, folder: Path, people: int, pictures: int
) -> list[tuple[int, Path, dict[str, float], float]]:
    """Person, picture, true weights by ARKit's names, focal length in pixels. What is there stays."""
    from PIL import Image
    from scipy.spatial.transform import Rotation

    from n2f_jax.benchmark.face_renders import FaceRenderer, degraded
    from n2f_jax.benchmark.ict_facekit import load_ict_facekit
    from n2f_jax.geometry.camera import FRONTAL, Camera
    from n2f_jax.runtime.atomic_files import atomic_path
    from n2f_jax.visualization.portrait import portrait, random_look

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "build"))
    from make_ict_heads import SEED

    folder.mkdir(parents=True, exist_ok=True)
    kit = load_ict_facekit(model)
    renderer = FaceRenderer(kit, SEED)
    known = {
        action: [name for name in (action, f"{action}_L", f"{action}_R") if name in kit.expression_names]
        for action in ACTIONS
    }
    if missing := [action for action, names in known.items() if not names]:
        raise ValueError(f"{model} has no {', '.join(missing)}")
    drawn = []
    for person in range(FIRST_PERSON, FIRST_PERSON + people):
        rest = renderer.rest(person)
        for number in range(pictures):
            rng = np.random.default_rng([SEED, person, number, 0x41524B])
            first = ACTIONS[(number + 7 * (person - FIRST_PERSON)) % len(ACTIONS)]
            chosen = {first} | ({str(rng.choice(ACTIONS))} if rng.random() < 0.5 else set())
            chosen -= {"eyeWide", "eyeSquint"} if "eyeBlink" in chosen else set()
            weights = {action: float(rng.uniform(0.3, 1.0)) for action in sorted(chosen)}
            angles = rng.normal(size=3) * [6.0, 10.0, 4.0]
            path = folder / f"person{person:03d}_{number:02d}.png"
            distance, gaze = float(rng.uniform(0.6, 1.2)), rng.normal(size=2) * [8.0, 5.0]
            look, noise = random_look(rng, "skin"), np.random.default_rng([person, number])
            truth = {unit: value for action, value in weights.items() for unit in units_of(action)}
            landmarks = renderer.places(renderer.expressed(rest, {}, np.zeros(2))[0]).landmarks
            rotation = Rotation.from_euler("XYZ", angles, degrees=True).as_matrix() @ FRONTAL
            shown = landmarks @ rotation.T
            focal = SIDE / 2.1 * distance / np.ptp(shown[:, :2], axis=0).max()
            if not path.exists():
                of_kit = {name: value for action, value in weights.items() for name in known[action]}
                mesh, eyes, _ = renderer.expressed(rest, of_kit, gaze)
                placed = renderer.places(mesh).model
                at = np.array([0.0, 0.0, distance]) - shown[17:].mean(axis=0)
                camera = Camera(rotation, at, np.float64(focal), np.full(2, SIDE / 2))
                image = portrait(mesh, camera, SIDE, look, renderer.paint(mesh, placed, eyes))
                with atomic_path(path) as temporary:
                    Image.fromarray(degraded(image, noise)).save(temporary)
            drawn.append((person, path, truth, float(focal)))
    return drawn


def measure(pictures: list[tuple[int, Path, dict[str, float], float]]) -> dict:
    """Figures by way and action."""
    from n2f_jax.data.images import read_image
    from n2f_jax.face_mesh.arkit_names import UNITS
    from n2f_jax.fitting.arkit import ArkitUnits, WeightReader
    from n2f_jax.frontends.blendshapes import BLENDSHAPES
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.tracking.appearance import describe
    from n2f_jax.tracking.first_pass import gather
    from n2f_jax.tracking.frames import FrameFitter, head_params
    from n2f_jax.tracking.identity import Conditional, combined_answers
    from n2f_jax.tracking.offline import point_errors_of

    compilation_cache.enable()
    reconstructor = Reconstructor.from_pretrained()
    model = reconstructor.head_model
    read = WeightReader(ArkitUnits.of_open_head(model))
    conditional = Conditional.of(np.asarray(reconstructor.answer_precision), model.num_shape)
    rows: dict[str, list] = {way: [] for way in (*WAYS, "truth")}
    missed = 0
    for person in sorted({one[0] for one in pictures}):
        seen, truths = [], []
        for _, path, truth, focal in (one for one in pictures if one[0] == person):
            image, _ = read_image(path)
            faces = reconstructor.detect(image)
            if not faces:
                missed += 1
                continue
            seen.append((image, faces[0], focal))
            truths.append([truth.get(name, 0.0) for name in UNITS])
        heads = reconstructor.reconstruct(
            [image for image, _, _ in seen], [focal for _, _, focal in seen], max_faces=1
        )
        rows["photo"] += list(read(params_of([head[0] for head in heads]))[0])
        rows["scores"] += [
            face.blendshapes[[BLENDSHAPES.index(name) for name in UNITS]] for _, face, _ in seen
        ]
        rows["truth"] += truths
        # Each picture has a focal length of its own: they are fitted one by one, with the shape of all.
        found = [
            gather(reconstructor, [(0, face, describe(image, face.landmarks_68))], image.shape[:2], focal)
            for image, face, focal in seen
        ]
        answers = np.mean([one.answer[0, : model.num_shape] for one in found], axis=0).astype(np.float64)
        shape, _ = combined_answers(
            answers,
            np.asarray(reconstructor.answer_precision, np.float64),
            np.asarray(reconstructor.population, np.float64),
            reconstructor.tables,
        )
        for one, (image, _, focal) in zip(found, seen, strict=True):
            fitter = FrameFitter(
                model,
                reconstructor.tables.pivot,
                shape,
                conditional,
                image.shape[:2],
                focal,
                reconstructor.point_places,
                point_errors_of(reconstructor),
                batch=1,
            )
            channels, _, _ = fitter(one)
            expression, jaw, lids, *_ = fitter.layout.split(channels)
            unknowns = np.concatenate([expression, jaw, np.clip(lids, -0.5, 1.15)], axis=1)
            rows["track"].append(
                read(head_params(shape.astype(np.float32), unknowns.astype(np.float32)))[0][0]
            )
        print(f"person {person}: {len(seen)} pictures", file=sys.stderr, flush=True)
    arrays = {way: np.array(values, np.float64) for way, values in rows.items()}
    return {"pictures": len(arrays["truth"]), "without_a_face": missed, "ways": figures_of(arrays, UNITS)}


def params_of(heads):
    """Parameters of ``Head``s, eyes at rest."""
    from flame_jax import FlameParams
    from flame_jax.rotations import axis_angle_to_rotation_6d

    shape, expression, jaw, lids = (
        np.stack([getattr(head, name) for head in heads]).astype(np.float32)
        for name in ("shape", "expression", "jaw_pose", "eyelids")
    )
    return FlameParams.resting(shape, expression, axis_angle_to_rotation_6d(jaw), lids)


def figures_of(arrays: dict[str, np.ndarray], names) -> dict:
    """By way: of every action and of all units together."""
    truth = arrays["truth"]
    counted = np.array([not name.startswith("eyeLook") for name in names])
    result = {}
    for way in (*WAYS, "zero"):
        found = np.zeros_like(truth) if way == "zero" else arrays[way]
        off = (found - truth)[:, counted]
        there = truth[:, counted] > 0
        one = {
            "all": {
                "rms": _rms(off),
                "rms_where_not_0": _rms(off[there]),
                "rms_where_0": _rms(off[~there]),
                "mean_where_0": float(found[:, counted][~there].mean()),
            }
        }
        for action in ACTIONS:
            columns = [names.index(unit) for unit in units_of(action)]
            x, y = truth[:, columns].ravel(), found[:, columns].ravel()
            moves = float(y.std()) > 1e-9
            one[action] = {
                "slope": float(np.polyfit(x, y, 1)[0]),
                "correlation": float(np.corrcoef(x, y)[0, 1]) if moves else 0.0,
                "rms": _rms(y - x),
            }
        result[way] = one
    return result


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def table(figures: dict) -> str:
    """Markdown."""
    ways = figures["ways"]
    lines = [
        f"{figures['pictures']} pictures, {figures['without_a_face']} without a face found",
        "",
        "| action | slope: photo | track | scores | correlation: photo | track | scores "
        "| error, rms: photo | track | scores |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for action in ACTIONS:
        cells = [f"{ways[way][action][key]:.2f}" for key in ("slope", "correlation", "rms") for way in WAYS]
        lines.append(f"| {action} | {' | '.join(cells)} |")
    mean = [
        f"{np.mean([ways[way][action][key] for action in ACTIONS]):.2f}"
        for key in ("slope", "correlation", "rms")
        for way in WAYS
    ]
    lines.append(f"| **mean** | {' | '.join(mean)} |")
    lines += ["", "| all units | " + " | ".join((*WAYS, "all 0")) + " |", "|---|---|---|---|---|"]
    for key in ("rms", "rms_where_not_0", "rms_where_0", "mean_where_0"):
        lines.append(
            f"| {key} | " + " | ".join(f"{ways[way]['all'][key]:.3f}" for way in (*WAYS, "zero")) + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
