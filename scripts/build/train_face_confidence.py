"""Trains the check of found faces and writes ``n2f_jax/frontends/assets/face_confidence.npz``.

    python scripts/build/train_face_confidence.py --photos ROOT --renders FOLDER [--samples FILE]

ROOT holds the repositories of ``scripts/benchmarks/public_photos`` as ``ROOT/owner/name``; FOLDER is what
``scripts/build/make_face_renders.py`` writes, with ``choosing`` in it. Only the choosing half is looked at. FILE keeps
the samples between runs. The same pictures give the same weights on the same machine.

What is printed is of faces that the weights in question were not trained on (cross-validation by person); the two
thresholds printed belong into ``n2f_jax/frontends/face_confidence.py``.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from face_check.collect import kept
from face_check.learning import Table, area, calibrate, raw_logits, table, train

from n2f_jax.frontends.face_confidence import ASSET, MEASURES, OUTPUTS, REGIONS
from n2f_jax.runtime.atomic_files import atomic_path

FRONTENDS = Path(__file__).resolve().parents[2] / "n2f_jax/frontends"
RENDERS, OF_RENDER, PARTS = 330, 4, 400
FOLDS = 3
# Of good heads, this share may be called doubtful, and this be dropped.
DOUBTFUL_SHARE, LOST_SHARE = 0.03, 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--renders", type=Path, required=True)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=FRONTENDS / "assets" / ASSET)
    options = parser.parse_args()
    samples = kept(
        options.samples,
        photos=options.photos,
        renders=options.renders,
        split="choosing",
        most_renders=RENDERS,
        of_render=OF_RENDER,
        parts=PARTS,
    )
    data = table(samples, np.random.default_rng(0))
    held = held_out(data, options.epochs)
    real = data[data.real]
    slope, offset = calibrate(held[data.real], real.targets)
    probabilities = 1 / (1 + np.exp(-(slope * held[data.real] + offset)))
    report(real, probabilities)
    weights = train(data, options.epochs, seed=FOLDS)
    halves = {key: value.astype(np.float16) for key, value in weights.items() if "kernel" in key}
    sources = dict(sorted(Counter(sample.source for sample in real.samples).items()))
    about = (
        "scripts/build/train_face_confidence.py: the check of found faces, trained on the choosing half of "
        f"scripts/benchmarks/public_photos and of scripts/build/make_face_renders.py: found faces by source {sources}, "
        f"of {len(set(real.group))} persons or pictures, spoilt by scripts/build/face_check/corruptions.py; "
        f"{options.epochs} epochs"
    )
    names = {"outputs": np.array(OUTPUTS), "measures": np.array(MEASURES)}
    arrays = {**weights, **halves, "slope": slope, "offset": offset, **names}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays, about=np.array(about))
    print(f"wrote {options.out}, {options.out.stat().st_size / 1024:.0f} KB\n{about}")


def held_out(data: Table, epochs: int) -> np.ndarray:
    """Logits of every row from weights that saw nobody of its group."""
    groups = sorted(set(data.group))
    fold = dict(zip(groups, np.random.default_rng(0).permutation(len(groups)) % FOLDS, strict=True))
    folds = np.array([fold[group] for group in data.group])
    out = np.zeros((len(folds), len(OUTPUTS)), np.float32)
    for number in range(FOLDS):
        weights = train(data[folds != number], epochs, seed=number)
        out[folds == number] = raw_logits(weights, data[folds == number])
        print(f"fold {number}: done", flush=True)
    return out


def report(data: Table, probabilities: np.ndarray) -> None:
    """Prints how well the held-out answers tell, and the thresholds."""
    confidence, is_face = (probabilities[:, OUTPUTS.index(name)] for name in ("all", "face"))
    good = data.targets[:, OUTPUTS.index("all")] > 0
    ghost = np.array([sample.source == "ghost" for sample in data.samples])
    face = data.targets[:, OUTPUTS.index("face")] > 0
    print(f"{len(good)} found faces: {good.sum()} good, {(~good & face).sum()} bad, {(~face).sum()} none")
    doubtful = float(np.quantile(confidence[good], DOUBTFUL_SHARE))
    # Only what is doubtful is dropped: the rest of the good ones cannot be lost.
    lost = float(np.quantile(np.where(confidence < doubtful, is_face, 1.0)[good], LOST_SHARE))
    print(f"DOUBTFUL = {doubtful:.2f}: finds {(confidence[~good & ~ghost] < doubtful).mean():.3f} of the bad")
    print(
        f"GHOST = {lost:.2f}: drops {((is_face < lost) & (confidence < doubtful))[~face].mean():.3f} of the ghosts"
    )
    print(
        f"AUC: {area(confidence[~ghost], ~good[~ghost]):.3f} without ghosts, {area(is_face, ~face):.3f} of ghosts"
    )
    for name, index in zip(REGIONS, range(len(REGIONS)), strict=True):
        print(f"  {name}: AUC {area(probabilities[~ghost, index], data.targets[~ghost, index] < 0.5):.3f}")
    kinds = np.array([sample.kind for sample in data.samples])
    for kind in np.unique(kinds):
        of = kinds == kind
        found = (confidence[of & ~good] < doubtful).mean() if (of & ~good).any() else float("nan")
        wrong = (confidence[of & good] < doubtful).mean() if (of & good).any() else float("nan")
        print(
            f"  {kind:14s} {of.sum():5d}, bad {(~good[of]).sum():4d}: AUC {area(confidence[of], ~good[of]):.3f}, "
            f"found {found:.3f}, good called doubtful {wrong:.3f}"
        )


if __name__ == "__main__":
    main()
