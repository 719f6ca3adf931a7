"""Whether neutral heads tell the same from different persons: area under the ROC curve over pairs of photographs.

    python scripts/benchmarks/identity_pairs.py --photos ROOT [--checkpoint NAME=DIR …] [--refine N …] [--out DIR]

--photos: the folder of the repositories that scripts/benchmarks/public_photos lists (a missing file says what brings
it). Of each photograph whose person is named, the largest face; its neutral head is decoded from the shape alone. A
pair's distance is that of the face regions' vertices after rigid alignment (and, "scaled", after one for size too), mm.
No photograph is compared with one of another repository: nobody has said who is in both. Intervals: 95 %, bootstrap
over persons.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

LISTS = Path(__file__).parent / "public_photos"
_RESAMPLES = 1000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--photos", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--group", choices=("choosing", "reporting", "all"), default="all")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--landmarks", choices=("v1", "v2"), default="v2")
    parser.add_argument("--refine", type=int, nargs="+", default=[None], metavar="N")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where identity_pairs.json goes")
    flags = parser.parse_args()

    import flame_jax
    from n2f_jax.evaluation.public_photos import photo_files, read_photo_lists
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    model = flame_jax.load_open_head()
    folders = dict(one.partition("=")[::2] for one in flags.checkpoint) or {"network": DEFAULT_CHECKPOINT}
    options = FrontendOptions(landmarks=flags.landmarks)
    results = {}
    try:
        photos = [
            one
            for one in read_photo_lists(LISTS)
            if one.person is not None and flags.group in ("all", one.split)
        ]
        files = photo_files(photos, flags.photos)
        for name, folder in folders.items():
            for steps in flags.refine:
                reconstructor = Reconstructor.from_pretrained(folder, frontend_options=options, refine=steps)
                found = reconstructor.reconstruct(files, max_faces=1, return_errors=True)
                kept = [
                    (photo, heads[0].shape)
                    for photo, heads in zip(photos, found, strict=True)
                    if not isinstance(heads, Exception) and heads
                ]
                persons = [f"{photo.repository}/{photo.person}" for photo, _ in kept]
                repositories = [photo.repository for photo, _ in kept]
                label = f"{name}, {reconstructor.refine} steps"
                shapes = np.stack([shape for _, shape in kept])
                results[label] = measure(model, shapes, np.array(persons), np.array(repositories))
                print(f"{label}: {format_line(results[label])}", flush=True)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
        (flags.out / "identity_pairs.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(model, shapes: np.ndarray, persons: np.ndarray, repositories: np.ndarray) -> dict:
    """Areas and median distances of N heads.

    Args:
        model: the head model.
        shapes: ``(N, S)`` coefficients.
        persons, repositories: ``(N,)`` names.
    """
    first, second = np.triu_indices(len(shapes), 1)
    inside = repositories[first] == repositories[second]
    first, second = first[inside], second[inside]
    same = persons[first] == persons[second]
    faces = neutral_faces(model, shapes)
    result = {"photographs": len(shapes), "persons": len(set(persons)), "same": int(same.sum())}
    for scaled in (False, True):
        distances = face_distances(faces, first, second, scaled)
        kind = "scaled" if scaled else "metric"
        result[kind] = {
            "auc": area(distances, same),
            "interval": _interval(distances, same, persons, first, second),
            "same_mm": float(np.median(distances[same])),
            "different_mm": float(np.median(distances[~same])),
        }
    return result


def neutral_faces(model, shapes: np.ndarray):
    """``(N, V, 3)`` vertices of the face region of neutral heads, metres."""
    import jax.numpy as jnp

    import flame_jax

    resting = flame_jax.FlameParams.neutral(model, (len(shapes),))
    vertices, _ = flame_jax.decode(model, dataclasses.replace(resting, shape=jnp.asarray(shapes)))
    return vertices[:, np.asarray(model.masks["face"])]


def face_distances(faces, first, second, scaled: bool) -> np.ndarray:
    """Mean distance of corresponding vertices for each pair of neutral faces, mm."""
    import jax.numpy as jnp

    from n2f_jax.geometry.alignment import procrustes

    a, b = faces[first], faces[second]
    moved = procrustes(a, b, scaling=scaled).apply(a)
    return 1000.0 * np.asarray(jnp.linalg.norm(moved - b, axis=-1).mean(axis=-1))


def area(distances: np.ndarray, same: np.ndarray) -> float:
    """Share of (same, different) pairs of pairs whose same person's distance is the smaller."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(distances[~same], distances[same]).statistic / (same.sum() * (~same).sum()))


def _interval(distances, same, persons, first, second) -> list[float]:
    """Of the area, over persons drawn with replacement: a pair counts as often as both its persons were drawn."""
    rng = np.random.default_rng(0)
    names, numbers = np.unique(persons, return_inverse=True)
    order = np.argsort(distances)
    same = same[order]
    areas = []
    for _ in range(_RESAMPLES):
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        a, b = drawn[numbers[first]][order], drawn[numbers[second]][order]
        weights = np.where(same, a, a * b).astype(float)
        # Weighted Mann-Whitney over sorted distances; ties have no weight worth counting.
        nearer = np.cumsum(weights * same)
        total = nearer[-1] * weights[~same].sum()
        if total > 0:
            areas.append(float((nearer * weights)[~same].sum() / total))
    return [float(x) for x in np.percentile(areas, [2.5, 97.5])]


def format_line(result: dict) -> str:
    """One line of figures."""
    parts = [
        f"{result['photographs']} photographs of {result['persons']} persons, {result['same']} same pairs"
    ]
    for kind in ("metric", "scaled"):
        one = result[kind]
        low, high = one["interval"]
        parts.append(
            f"{kind} AUC {one['auc']:.3f} ({low:.3f}–{high:.3f}), same {one['same_mm']:.2f}, different "
            f"{one['different_mm']:.2f} mm"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
