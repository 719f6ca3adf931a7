"""Calibrates a checkpoint's answers to photographs on pictures of heads that are known.

    python scripts/build/make_face_renders.py --model ICT-FaceKit/FaceXModel --out face_renders --views 1 --more 1500
    python scripts/build/calibrate_on_pictures.py --checkpoint OLD --model ICT-FaceKit/FaceXModel \\
        --renders face_renders --out NEW

The pictures of face_renders/more go through the free front end and the network. What its answers say of shape (kinds
``face_mesh_v1`` and ``face_mesh_v2``, measured on simulated points by carry_over_checkpoint.py) is then drawn towards
the mean head as far as these people ask for (``models.calibration.recalibrate_shape``), what they say of expression and
jaw half of the way to what these faces do (``recalibrate_expression``), and where there are scores of ARKit's units
by those too (``recalibrate_with_scores``). Shapes then follow what the landmark network made of the pictures
(``models.seen_shape``). --only: for a checkpoint that has the rest. Nobody of the outside set is among them.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

VERSIONS, BATCH = ("v1", "v2"), 16


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="FaceXModel, or an .npz")
    parser.add_argument("--renders", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", choices=("scores", "activations"), help="leave the rest as it is")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the way by the scores; default: %(default)s"
    )
    flags = parser.parse_args()

    import numpy as np
    from make_ict_heads import SEED
    from open_head.mirroring import mirrored_shapes
    from open_head.scan_statistics import scan_coefficients

    import flame_jax
    from n2f_jax.benchmark.face_renders import FaceRenderer
    from n2f_jax.benchmark.ict_facekit import load_ict_facekit
    from n2f_jax.fitting.head_tables import HeadTables
    from n2f_jax.fitting.prior import population_precision
    from n2f_jax.metrics.skin import face_skin
    from n2f_jax.models.calibration import (
        recalibrate_expression,
        recalibrate_shape,
        recalibrate_with_scores,
    )
    from n2f_jax.models.pretrained import from_pretrained, save_pretrained
    from n2f_jax.models.seen_shape import fit_seen_shape

    model = flame_jax.load_open_head()
    try:
        saved = from_pretrained(flags.checkpoint, model)
        scans = load_ict_facekit(flags.model)
        renderer = FaceRenderer(scans, SEED)
        modes = scan_coefficients(model, scans)[1]
        basis = np.asarray(model.shapedirs, np.float64)[face_skin(model)]
        basis = (basis - basis.mean(axis=0)).reshape(-1, basis.shape[-1]) / np.sqrt(len(basis))
        count = model.num_shape
        deviation = np.asarray(population_precision(HeadTables.from_model(model)))[count:] ** -0.5
        moving = _movements(model)
        calibration, notes = dict(saved.calibration), {}
        for version in VERSIONS:
            kind = f"face_mesh_{version}"
            if kind not in calibration:
                raise ValueError(
                    f"{flags.checkpoint} has no calibration of {kind}: carry_over_checkpoint.py makes it"
                )
            people, views, answers, scores, activations = _answers(
                saved, model, flags.renders / "more", version
            )
            said = f"{len(people)} pictures of {len(set(people))} people"
            drawn = [
                np.random.default_rng([SEED, one]).standard_normal(len(scans.identity)) for one in people
            ]
            shapes, places = np.stack(drawn) @ modes.T, basis.T @ basis
            one, found = calibration[kind], {}
            if flags.only is None:
                one, found["shape"] = recalibrate_shape(one, answers, shapes, people, places)
            if flags.only != "activations":
                true, gram = moving(renderer, people, views)
            if flags.only is None:
                one, found["expression"] = recalibrate_expression(one, answers, true, people, gram, deviation)
            if flags.only != "activations":
                one, found["expression, by scores"] = recalibrate_with_scores(
                    one, answers, scores, true, people, gram, flags.share
                )
            if flags.only != "scores":
                told = (answers @ np.asarray(one.matrix).T + np.asarray(one.offset))[:, :count]
                seen, found["shape, by activations"] = fit_seen_shape(
                    told, activations, shapes, people, places, mirrored_shapes(model)
                )
                one = dataclasses.replace(one, seen=seen)
            calibration[kind] = one
            notes[kind] = said
            for what, figures in found.items():
                print(f"{kind}, {what}: {said};", ", ".join(f"{name} {x:.3g}" for name, x in figures.items()))
        save_pretrained(
            flags.out,
            saved.network,
            saved.config,
            head_model=model,
            inputs=saved.inputs,
            notes={
                **saved.notes,
                "calibrated_on_pictures" + (f", {flags.only}" if flags.only else ""): notes,
                **({} if flags.only == "activations" else {"calibrated_on_scores": flags.share}),
            },
            dtype="bfloat16",
            calibration=calibration,
        )
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"output: {flags.out}")
    return 0


def _movements(model):
    """A function of pictures: expression, jaw and lids (N, W) of what is seen, and their places' gram (W, W)."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from n2f_jax.fitting.arkit import ArkitUnits, displacement, nearest_expressions
    from n2f_jax.metrics.skin import face_skin

    units, skin = ArkitUnits.of_open_head(model), face_skin(model)

    def of(renderer, people, views):
        pictures = zip(people.tolist(), views.tolist(), strict=True)
        wanted = np.stack([renderer.movement(*picture)[skin] for picture in pictures])
        found, _ = nearest_expressions(units, jnp.asarray(wanted, jnp.float32))
        slopes = jax.jacfwd(lambda x: displacement(units, x))(jnp.zeros(found.shape[1]))
        slopes = np.asarray(slopes, np.float64).reshape(-1, found.shape[1]) / np.sqrt(len(skin))
        return np.asarray(found), slopes.T @ slopes

    return of


def _answers(saved, model, folder, version):
    """Who is seen, in which view, the network's answers (N, U), the front end's scores (N, 51) and activations
    (N, 2, D), of all pictures in which a face is found."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx
    from tqdm import tqdm

    from n2f_jax.benchmark.face_renders import read_face_renders
    from n2f_jax.data.images import read_image
    from n2f_jax.face_mesh.embedding import places_of_correction
    from n2f_jax.frontends.blendshapes import scores_of_units
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.geometry.focal import resolve_focal
    from n2f_jax.models.calibration import to_unknowns
    from n2f_jax.models.correction import Scene
    from n2f_jax.reconstruction.face_batch import FaceBatch, activations_of
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    places = places_of_correction(model, saved.config.correction)
    graph, state = nnx.split(saved.network)

    @jax.jit
    def answer(state, maps, mask, focal, principal_point, points):
        scene = Scene.of_crops(places, focal, principal_point, points)
        return to_unknowns(nnx.merge(graph, state)(maps, mask, scene).flame_params())

    options = FrontendOptions(landmarks=version)
    detect = Reconstructor.from_pretrained(None, refine=0, frontend_options=options).detect
    found = []
    for path, render in tqdm(read_face_renders(folder), desc=f"faces, {version}", unit="picture"):
        image, _ = read_image(path)
        size = image.shape[:2]
        # Of several the one that was drawn.
        middle = render.pixels(render.landmarks, size).mean(axis=0)
        faces = [
            face
            for face in detect(image)
            if np.hypot(*(face.landmarks_68.mean(axis=0) - middle)) < 0.2 * render.face_size
        ]
        if faces:
            view = int(path.stem.partition("_view")[2])
            found.append((render.person, view, faces[0], size, resolve_focal(size, given=render.focal)))
    answers = []
    for start in tqdm(range(0, len(found), BATCH), desc="answers", unit="batch"):
        people, _, faces, sizes, focals = zip(*found[start : start + BATCH], strict=True)
        batch = FaceBatch.of_faces(
            faces, sizes, focals, size=saved.inputs.size, channels=saved.inputs.channels, padded_to=BATCH
        )
        said = answer(
            state, jnp.asarray(batch.maps), batch.mask, batch.focal, batch.principal_point, batch.points
        )
        answers.append(np.asarray(said, np.float64)[: len(people)])
    people, views = (np.array(column) for column in list(zip(*found, strict=True))[:2])
    scores = np.stack([scores_of_units(face.blendshapes) for _, _, face, _, _ in found])
    activations = np.stack([activations_of(face) for _, _, face, _, _ in found])
    return people, views, np.concatenate(answers), scores, activations


if __name__ == "__main__":
    sys.exit(main())
