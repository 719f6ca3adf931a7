"""From photographs, or normal maps, to heads: load once, then jit-compiled batches.

>>> reconstructor = Reconstructor.from_pretrained()
>>> (heads,) = reconstructor.reconstruct(["photo.jpg"])
>>> heads[0].vertices, heads[0].rotation, heads[0].intrinsics
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

import flame_jax
from flame_jax import HeadModel
from flame_jax.rotations import rotation_6d_to_axis_angle
from n2f_jax.data.images import read_image
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.face_mesh.embedding import face_mesh_embedding, places_of_correction
from n2f_jax.face_mesh.map_frames import has_flames_mesh, map_rotations
from n2f_jax.fitting.head_correspondence import lacks_regions_or_contour
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.observations import Anchors
from n2f_jax.fitting.prior import AnswerModel, HeadPrior
from n2f_jax.frontends.base import Frontend, FrontendFace, as_image, largest_face_size
from n2f_jax.frontends.blendshapes import scores_of_units
from n2f_jax.frontends.face_confidence import REGIONS
from n2f_jax.frontends.registry import FrontendOptions, make_frontend
from n2f_jax.geometry.camera import project_points
from n2f_jax.geometry.crop import Crop
from n2f_jax.geometry.focal import Focal, FocalHints, resolve_focal
from n2f_jax.models.calibration import KINDS, NUM_SCORES
from n2f_jax.models.face_mask import predict_masks
from n2f_jax.models.input_channels import CHANNELS
from n2f_jax.models.pretrained import (
    DEFAULT_CHECKPOINT,
    HeadModelIdentity,
    Pretrained,
    check_head_model,
    from_pretrained,
    identity_sha256,
)
from n2f_jax.models.seen_shape import NUM_ACTIVATIONS
from n2f_jax.reconstruction.arguments import (
    as_batch,
    as_images,
    as_source,
    check_batch,
    check_count,
    check_crops,
    check_faces,
    check_focal,
    check_image_sizes,
    check_resolved,
    one_each,
)
from n2f_jax.reconstruction.face_batch import FaceBatch
from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.other_head import OtherHead
from n2f_jax.reconstruction.prediction import NUM_INNER, HeadStage, PredictedHeads, see_eyes

if TYPE_CHECKING:
    from n2f_jax.reconstruction.photo_program import PhotoHeads, PhotoProgram

_log = logging.getLogger(__name__)
Alignment = Literal["network", "landmarks"]
ALIGNMENTS: tuple[Alignment, ...] = ("network", "landmarks")
DEFAULT_ALIGNMENT: Alignment = "landmarks"
BatchPath = Literal["frontend", "device"]
BATCH_PATHS: tuple[BatchPath, ...] = ("frontend", "device")
# Heads of a photograph that the program of ``reconstruct_batch`` has room for.
DEVICE_FACES = 4
# Gauss–Newton steps (docs/fitting.md). The free front end's normals are smooth: more steps fit what it does not see.
DEFAULT_REFINE, DEFAULT_REFINE_FACE_MESH = 12, 2


class Reconstructor:
    """Normal maps, or photographs, to heads.

    Any number of threads may call one object at once, as servers do; each gets what it would get alone. The networks
    of the front end take turns (``frontends.tflite``), the compiled stage does not. It can be pickled and copied, with
    its weights and without the files of the front end, which are read again where it is loaded; what was compiled is
    compiled again there.

    Attributes:
        head_model: what the coefficients are decoded with.
        inputs: how the network's input is prepared.
        tables: of the head model, for fits.
        point_places: triangles and barycentrics of the face mesh's points on it; None where they are not known.
        map_rotations: of front ends' normals into the frame of the network's model (``face_mesh.map_frames``).
    """

    def __init__(
        self,
        pretrained: Pretrained,
        head_model: HeadModel,
        frontend: Frontend | None = None,
        *,
        alignment: Alignment = DEFAULT_ALIGNMENT,
        refine: int | None = None,
        batch_size: int = 8,
        name: str = "",
        maps: str | None = None,
        other: OtherHead | None = None,
    ):
        """Use ``from_pretrained`` unless the parts are already at hand.

        Args:
            pretrained: the network with its input description.
            head_model: the head model it was trained for; or ``other.target``.
            frontend: photographs to normal maps; None if only ``from_maps`` is used.
            alignment: ``'network'``: the camera is the network's (which its correction, where there is one, puts on the
                face mesh's points). ``'landmarks'``: its pose is then moved by
                Levenberg–Marquardt until the mesh's inner 51 landmarks, and the points of the face mesh where
                they are embedded in the head model, lie on the front end's.
            refine: so many Gauss–Newton steps at most from the network's output, on the front end's normals and mask
                and, with ``alignment='landmarks'``, on its points (``n2f_jax.fitting.gauss_newton``). 0: none; None:
                2 for the face mesh's maps, 12 for others, where the network takes head-frame normals, else none.
            batch_size: faces per call of the compiled stage. Batches are padded to 1 or to this, so there are
                at most two compilations.
            name: of the checkpoint, for the record.
            maps: what is shown to the network, one of ``models.calibration.KINDS``; decides what its answers are
                taken to be worth. None: the front end's; without one, ``'normals'``.
            other: by which the network's heads are carried over to ``head_model``, where it is another one.

        Raises:
            HeadModelMismatch: the network was trained for another head model.
            ValueError: an unknown alignment, a batch size below 1, a head model without landmarks, or steps of
                refinement below 0 or on maps that are not head-frame normals.
            TypeError: a batch size or a number of steps that is no whole number.
        """
        if alignment not in ALIGNMENTS:
            raise ValueError(f"alignment is one of {', '.join(ALIGNMENTS)}, not {alignment!r}")
        check_count("batch_size", batch_size, 1)
        if head_model.landmarks is None:
            raise ValueError(f"head model {head_model.name!r} has no landmark embedding")
        inputs = pretrained.inputs
        refinable = inputs.channels == "normals" and inputs.normal_frame == "head"
        if refine is None:
            smooth = getattr(frontend, "name", "") == "face_mesh"
            refine = (DEFAULT_REFINE_FACE_MESH if smooth else DEFAULT_REFINE) if refinable else 0
        check_count("refine", refine, 0)
        if refine and not refinable:
            raise ValueError(
                f"refinement needs head-frame normals; {name or 'the network'} takes {inputs.channels} in the "
                f"{inputs.normal_frame} frame: use refine=0"
            )
        own = head_model if other is None else other.source
        check_head_model(pretrained.head_model, own, name or "the network")
        self.head_model = head_model
        self.inputs = inputs
        self.frontend = frontend
        self.alignment = alignment
        self.refine = refine
        self.batch_size = batch_size
        self.checkpoint = name
        self.checkpoint_sha256 = _parameters_sha256(pretrained)
        identity = pretrained.head_model if other is None else HeadModelIdentity.of(head_model)
        self.head_model_sha256 = identity_sha256(identity)
        self._faces = np.asarray(head_model.faces)
        self._own_model = own  # the network's
        places = pretrained.face_mesh
        self._embedding = face_mesh_embedding(own, places)
        own_tables = HeadTables.from_model(own)
        self.tables = own_tables if other is None else HeadTables.from_model(head_model)
        self.point_places = self._embedding if other is None else other.embedding
        if refine:
            self._fit = (self.tables, Anchors.photograph(head_model, self.point_places))
        if maps is None:
            of_frontend = {
                "face_mesh": f"face_mesh_{getattr(frontend, 'landmarks', 'v1')}",
                # Its faces come with the face mesh's points, which a network without a correction does not look at.
                "pixel3dmm": "normals_points" if pretrained.config.correction else "normals",
            }
            maps = of_frontend.get(getattr(frontend, "name", ""), "normals")
        if maps not in KINDS:
            raise ValueError(f"maps is one of {', '.join(KINDS)}, not {maps!r}")
        self.maps = maps
        # Older checkpoints know normals alone.
        known = maps if maps in pretrained.calibration else maps.removesuffix("_points")
        self._answers = AnswerModel.make(own_tables, pretrained.calibration.get(known))
        self._transfer = None if other is None else other.transfer(self.tables, self._answers.precision)
        self._places = places_of_correction(own, pretrained.config.correction, places)
        to_flame = other.correspondence.rotation if other and has_flames_mesh(head_model) else None
        self.map_rotations = map_rotations(own, places, to_flame)
        of_maps = "face_mesh" if maps.startswith("face_mesh") else getattr(frontend, "name", "")
        turn = self.map_rotations.get(of_maps) if inputs.normal_frame == "head" else None
        self._maps_rotation = None if turn is None else jnp.asarray(turn)
        # The frame of the network's model to that of ``head_model``; None: they are one.
        self.normals_rotation = None if other is None else jnp.asarray(other.correspondence.rotation)
        self._graph, self._state = nnx.split(pretrained.network)

    @property
    def answer_precision(self) -> Float[Array, "U U"]:
        """Of heads about the network's answers to one image (``fitting.prior.HeadPrior``), population included."""
        return self._answers.precision if self._transfer is None else self._transfer.precision

    @property
    def face_mesh_rotation(self) -> Float[np.ndarray, "3 3"] | None:
        """The frame of the face mesh's normals to that of ``head_model``; None where they are one."""
        own, on = self.map_rotations.get("face_mesh"), self.normals_rotation
        if own is None or on is None:
            return own if on is None else np.asarray(on)
        return np.asarray(on) @ own

    @property
    def population(self) -> Float[Array, " U"]:
        """Precision of the population of heads, which ``answer_precision`` holds as well."""
        return self._answers.population if self._transfer is None else self._transfer.population

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        head_model: HeadModel | str | Path | None = None,
        frontend: Frontend | str | None = "face_mesh",
        frontend_options: FrontendOptions | None = None,
        **options: Any,
    ) -> Reconstructor:
        """Loads a checkpoint, its head model and a front end.

        Args:
            path: a folder written by ``save_pretrained``; None for the checkpoint that ships.
            head_model: a model, the path of one (``flame_jax.load_head_model``), or None for the free one that ships.
                A checkpoint of the open head serves any other with landmarks: its answers are carried over
                (``fitting.head_transfer``) by a correspondence that is found once and kept beside the file.
            frontend: a front end, the name of one (``frontends.FRONTENDS``), or None if only
                ``from_maps`` is used.
            frontend_options: files and limits of a named front end; size and crop are the checkpoint's.
            **options: ``alignment``, ``refine``, ``batch_size``.

        Raises:
            FileNotFoundError, PretrainedError, HeadModelError: a part is missing, broken or does not fit.
        """
        path = Path(path) if path is not None else DEFAULT_CHECKPOINT
        pretrained = from_pretrained(path)
        file = None
        if head_model is None:
            head_model = flame_jax.load_open_head()
        elif not isinstance(head_model, HeadModel):
            file = Path(head_model)
            head_model = flame_jax.load_head_model(file)
        if (other := OtherHead.beside(pretrained.head_model, head_model, file)) is not None:
            head_model = other.target
        elif pretrained.face_mesh is not None and lacks_regions_or_contour(head_model):
            head_model = OtherHead.laid_over(head_model, file).target
        if isinstance(frontend, str):
            frontend = _checkpoint_frontend(frontend, pretrained, frontend_options)
        return cls(pretrained, head_model, frontend, name=path.name, other=other, **options)

    def reconstruct(
        self,
        images: Sequence[np.ndarray | str | Path],
        focals: Sequence[float | Focal | FocalHints | None] | None = None,
        *,
        max_faces: int | None = None,
        sources: Sequence[Path | None] | None = None,
        return_errors: bool = False,
    ) -> list[list[Head]]:
        """Heads of every image, the largest first; an empty list where no face was found.

        Args:
            images: ``(H, W, 3)`` uint8 RGB, upright; or files, which are read so (``data.images.read_image``).
            focals: focal length of each in pixels; None for what a file's EXIF data says, else one by the size of the
                image and of its largest face (``geometry.focal``).
            max_faces: of each image; None for all.
            sources: the file of each, for a front end that looks up what was computed before.
            return_errors: an image that fails has its exception in the list, in place of heads, and the others
                their heads.

        Raises:
            ImageError: a file is no image.
            TypeError: one image in place of a list, an image that is neither array nor file (a PIL image is neither).
            ValueError: this reconstructor has no front end; an array is not ``(H, W, 3)`` uint8 or has no pixel; a
                focal length is no positive number; there is another number of focal lengths or sources than images.
        """
        images = as_images(images)
        focals = one_each("focals", focals, len(images), "images")
        sources = one_each("sources", sources, len(images), "images")
        if max_faces is not None:
            check_count("max_faces", max_faces, 1)
        self._check_frontend()
        results: list[Any] = list(zip(images, focals, sources, strict=True))
        for stage in (
            _open_photos,
            functools.partial(self._find_faces, max_faces=max_faces),
            self._heads_of_faces,
        ):
            results = _one_failure_at_a_time(stage, results) if return_errors else stage(results)
        return results

    def reconstruct_batch(
        self,
        images: Sequence[np.ndarray] | UInt8[np.ndarray, "B H W 3"],
        focals: Sequence[float | Focal | FocalHints | None] | None = None,
        *,
        max_faces: int | None = None,
        path: BatchPath | None = None,
        padded_to: int | None = None,
    ) -> list[list[Head]]:
        """Heads of every image of a batch of one size: what ``reconstruct`` gives, within about 0.05 mm and 0.1 px.

        On the path ``'device'`` detection, landmarks, maps, network, refinement and meshes are one compiled program
        (``program``), compiled once for each shape of the batch and shared by all devices that divide it. Images
        that it does not settle (nobody found at the first look, more faces than it has room for, doubtful ones, EXIF's
        focal length where the face's size says that it cannot be) go the other way, ``'frontend'``: the front end image
        by image, faces in common batches.

        Args:
            images: ``(B, H, W, 3)`` uint8 RGB, upright.
            focals, max_faces: as ``reconstruct``.
            path: None for ``batch_path()``, which the log then says.
            padded_to: images that the program sees in one call: black ones are added to fewer, and cost a first look.
                None: as many as there are.

        Raises:
            TypeError, ValueError: as ``reconstruct``; more images than ``padded_to``; images of different sizes; or a
                front end without a program.
        """
        batch = as_batch(images)
        focals = one_each("focals", focals, len(batch), "images")
        for focal in focals:
            check_focal(focal)
        if max_faces is not None:
            check_count("max_faces", max_faces, 1)
        if padded_to is not None:
            check_count("padded_to", padded_to, len(batch))
        if path is None:
            path = self._chosen_path
        if path not in BATCH_PATHS:
            raise ValueError(f"the path of a batch is one of {', '.join(BATCH_PATHS)}, not {path!r}")
        if path == "frontend":
            return self.reconstruct(list(batch), focals, max_faces=max_faces)
        given = np.array([_pixels_wanted(focal) for focal in focals], np.float32)
        if padded_to is not None and padded_to > len(batch):
            added = padded_to - len(batch)
            batch = np.concatenate([batch, np.zeros((added, *batch.shape[1:]), np.uint8)])
            given = np.concatenate([given, np.full(added, np.nan, np.float32)])
        answers = self.program.heads(self.program.weights, batch, given)
        settled = np.asarray(answers.found.settled)
        results: list[list[Head]] = [[] for _ in focals]
        rest = []
        for i, focal in enumerate(focals):
            heads = None
            if settled[i]:
                one = jax.tree.map(lambda x, i=i: x[i], answers)
                heads = self._heads_of_photo(one, batch.shape[1:3], focal)
            if heads is None:
                rest.append(i)
            else:
                results[i] = heads
        if rest:
            others = self.reconstruct([batch[i] for i in rest], [focals[i] for i in rest])
            for i, heads in zip(rest, others, strict=True):
                results[i] = heads
        return [heads[:max_faces] for heads in results]

    @functools.cached_property
    def _chosen_path(self) -> BatchPath:
        path = self.batch_path()
        _log.info("batches of photographs go the path %r (on %s)", path, jax.default_backend())
        return path

    def batch_path(self) -> BatchPath:
        """The way that ``reconstruct_batch`` takes by itself.

        ``'frontend'`` on CPUs with LiteRT, where it takes less CPU time and no minutes of compiling (RESULTS.md), and
        for front ends without a program; else ``'device'``.
        """
        from n2f_jax.frontends.tflite import available_runtime

        if not self._has_program():
            return "frontend"
        return "frontend" if jax.default_backend() == "cpu" and available_runtime() == "litert" else "device"

    @functools.cached_property
    def program(self) -> PhotoProgram:
        """From photographs to heads in one compiled program, which may be called by itself.

        Raises:
            ValueError: the front end is not the face mesh, or looks for small faces.
        """
        from n2f_jax.reconstruction.photo_program import PhotoProgram  # what it needs, others do not

        frontend: Any = self._check_frontend()
        if not self._has_program():
            raise ValueError("only the face mesh front end, without small_faces, has a program of its own")
        every_face = frontend.max_faces != 1
        return PhotoProgram(
            self.stage,
            self.inputs.crop_scale,
            frontend.landmarks,
            frontend.min_score,
            max_faces=DEVICE_FACES if every_face else 1,
            every_face=every_face,
        )

    def _has_program(self) -> bool:
        return getattr(self.frontend, "name", "") == "face_mesh" and not getattr(
            self.frontend, "small_faces", True
        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name not in ("program", "_chosen_path")
        }

    def _heads_of_photo(
        self, answers: PhotoHeads, image_size: tuple[int, int], focal: float | Focal | FocalHints | None
    ) -> list[Head] | None:
        """Heads of one photograph of a batch; None where its focal length turns out to be another than they were made
        with."""
        wanted = np.asarray(answers.wanted)
        # All that a head holds, in one transfer; the wanted ones come first.
        count = int(wanted.sum())
        found, crop, normals, masks, heads = jax.device_get(
            jax.tree.map(
                lambda x: x[:count],
                (answers.found.faces, answers.crop, answers.normals, answers.mask, answers.heads),
            )
        )
        faces = [self.frontend.face_of(found, i, normals[i], masks[i], crop) for i in range(count)]
        if isinstance(focal, Focal):
            resolved = focal
        else:
            hints = focal if isinstance(focal, FocalHints) else FocalHints(focal)
            # What EXIF data says is held against the size of the face, which is known only now.
            resolved = resolve_focal(image_size, *hints, self.face_size(faces))
            if hints.exif is not None and hints.given is None and resolved.source != "exif":
                return None
        return self._finished_heads(
            heads, normals, masks, crop, faces, [image_size] * count, [resolved] * count
        )

    def _find_faces(
        self, photos: Sequence[_Photo], max_faces: int | None
    ) -> list[tuple[_Photo, list[FrontendFace]]]:
        found = self.detect_all([photo.image for photo in photos], [photo.source for photo in photos])
        return [(photo, faces[:max_faces]) for photo, faces in zip(photos, found, strict=True)]

    def _heads_of_faces(self, found: Sequence[tuple[_Photo, list[FrontendFace]]]) -> list[list[Head]]:
        """Faces of all photographs in common batches."""
        owners = [photo for photo, faces in found for _ in faces]
        focals = [focal for photo, faces in found for focal in [self._focal(photo, faces)] * len(faces)]
        heads = iter(
            self.from_faces(
                [face for _, faces in found for face in faces],
                [photo.image.shape[:2] for photo in owners],
                focals,
            )
        )
        return [[next(heads) for _ in faces] for _, faces in found]

    def _focal(self, photo: _Photo, faces: Sequence[FrontendFace]) -> Focal:
        """One for all faces of a photograph."""
        if isinstance(photo.focal, Focal):
            return photo.focal
        return resolve_focal(photo.image.shape[:2], *photo.focal, self.face_size(faces))

    def face_size(self, faces: Sequence[FrontendFace]) -> float:
        """Longer side of the box around the 68 landmarks of the largest of some faces, pixels; NaN without any."""
        return largest_face_size(faces, self.inputs.crop_scale)

    def detect(self, image: np.ndarray, source: Path | None = None) -> list[FrontendFace]:
        """The front end on one ``(H, W, 3)`` uint8 RGB image: its faces, the largest first.

        Args:
            image: upright.
            source: its file, for a front end that looks up what was computed before.

        Raises:
            TypeError: no array.
            ValueError: not ``(H, W, 3)`` uint8, no pixel, or this reconstructor has no front end.
        """
        return self.detect_all([image], [source])[0]

    def detect_all(
        self, images: Sequence[np.ndarray], sources: Sequence[Path | None] | None = None
    ) -> list[list[FrontendFace]]:
        """``detect`` for several images, which a front end with networks sees as one batch.

        Raises:
            TypeError, ValueError: as ``detect``; one image in place of a list, or another number of sources.
        """
        frontend = self._check_frontend()
        images = [as_image(image) for image in as_images(images)]
        sources = one_each("sources", sources, len(images), "images")
        found = frontend(images, [as_source(source) for source in sources])
        return [sorted(faces, key=lambda face: -float(face.crop.side)) for faces in found]

    def _check_frontend(self) -> Frontend:
        if self.frontend is None:
            raise ValueError("this reconstructor has no front end; use from_maps, or load one with it")
        return self.frontend

    def from_faces(
        self,
        faces: Sequence[FrontendFace],
        image_sizes: Sequence[tuple[int, int]],
        focals: Sequence[Focal],
    ) -> list[Head]:
        """Heads from what a front end found.

        Args:
            faces: of any images.
            image_sizes: (height, width) of each face's image.
            focals: of each face's image (``resolve_focal``).

        Raises:
            TypeError, ValueError: something else, maps of another size or of whole numbers, points of another shape, or
                another number of sizes or focal lengths than faces.
        """
        faces = check_faces(faces, self.inputs.size)
        image_sizes = one_each("image_sizes", image_sizes, len(faces), "faces")
        focals = one_each("focals", focals, len(faces), "faces")
        check_image_sizes(image_sizes)
        check_resolved(focals)
        heads = []
        for start in range(0, len(faces), self.batch_size):
            part = slice(start, start + self.batch_size)
            heads += self._one_batch(faces[part], image_sizes[part], focals[part])
        return heads

    def from_maps(
        self,
        normals: Sequence[np.ndarray] | Float[np.ndarray, "B S S 3"],
        masks: Sequence[np.ndarray] | Float[np.ndarray, "B S S"] | None,
        crops: Sequence[Crop],
        image_sizes: Sequence[tuple[int, int]],
        focals: Sequence[float | None] | None = None,
        landmarks: Sequence[np.ndarray] | None = None,
    ) -> list[Head]:
        """Heads from precomputed normal maps.

        Args:
            normals: unit normals in the frame that the checkpoint wants (``inputs.normal_frame``); with a front end, in
                the head frame of its maps.
            masks: 1 on the face. None where nobody segmented the maps: the normals tell it (``models.face_mask``).
            crops: the square of the original image that each map shows.
            image_sizes: (height, width) of each original image.
            focals: in original pixels; None for one by the sizes of image and face (``geometry.focal``).
            landmarks: ``(68, 2)`` each, original pixels. Without them the camera is the network's.

        Raises:
            TypeError, ValueError: as ``from_faces``; or a crop that is no square of a positive side.
        """
        if not hasattr(normals, "__len__"):
            raise TypeError(f"a list of normal maps is wanted, not a {type(normals).__name__}")
        count = len(normals)
        unmasked = masks is None
        if unmasked:
            masks = [np.ones(np.shape(one)[:2], np.float32) for one in normals]
        masks = one_each("masks", masks, count, "normal maps")
        crops = one_each("crops", crops, count, "normal maps")
        image_sizes = one_each("image_sizes", image_sizes, count, "normal maps")
        focals = one_each("focals", focals, count, "normal maps")
        marked = one_each("landmarks", landmarks, count, "normal maps")
        check_crops(crops)
        check_image_sizes(image_sizes)
        nowhere = np.full((68, 2), np.nan, np.float32)
        faces = [
            FrontendFace(
                normals=normals[i],
                mask=masks[i],
                crop=crops[i],
                landmarks_68=nowhere if marked[i] is None else marked[i],
                score=float("nan"),
            )
            for i in range(count)
        ]
        if unmasked and faces:
            whole = jnp.stack([face.normals for face in check_faces(faces, self.inputs.size)])
            found = predict_masks(whole)
            faces = [
                dataclasses.replace(face, normals=shown, mask=mask)
                for face, shown, mask in zip(faces, whole * found[..., None], found, strict=True)
            ]
        lengths = [
            resolve_focal(size, focal, face_size=self.face_size([face]))
            for size, focal, face in zip(image_sizes, focals, faces, strict=True)
        ]
        return self.from_faces(faces, image_sizes, lengths)

    def predict(
        self,
        maps: Float[Array, "B S S C"],
        masks: Float[Array, "B S S"],
        focal: Float[Array, "B"],
        principal_point: Float[Array, "B 2"],
        landmarks: Float[Array, "B 68 2"],
        points: Float[Array, "B 468 3"],
        scores: Float[Array, "B 51"] | None = None,
        activations: Float[Array, "B 2 D"] | None = None,
    ) -> PredictedHeads:
        """The compiled stage alone, on arrays of crops; compiled anew for each batch size.

        Args:
            maps: normals, ``S = inputs.size``; or what ``inputs.channels`` names, in that order along the last axis.
            masks: 1 on the face.
            focal: of the crop's camera, crop pixels.
            principal_point: of the crop's camera, crop pixels.
            landmarks: crop pixels; NaN where there are none.
            points: the face mesh's points, crop pixels and depth in the same scale (``FaceBatch.points``); NaN where
                there are none. With neither, or with ``alignment='network'``, the camera is the network's.
            scores: the front end's, of ARKit's units (``FaceBatch.scores``); NaN where there are none, None without.
            activations: of the front end's landmark network (``FaceBatch.activations``), likewise.

        Raises:
            TypeError, ValueError: an argument is no array of its shape, or not of floats.
        """
        given = maps, masks, focal, principal_point, landmarks, points, scores, activations
        self._check(*given)
        return self.stage(*given)

    def answer(
        self,
        maps: Float[Array, "B S S C"],
        masks: Float[Array, "B S S"],
        focal: Float[Array, "B"],
        principal_point: Float[Array, "B 2"],
        landmarks: Float[Array, "B 68 2"],
        points: Float[Array, "B 468 3"],
        scores: Float[Array, "B 51"] | None = None,
        activations: Float[Array, "B 2 D"] | None = None,
    ) -> tuple[PredictedHeads, HeadPrior]:
        """``predict`` before any refinement: the most probable heads given the network's answers, and how sure that is.

        Raises:
            TypeError, ValueError: as ``predict``.
        """
        given = maps, masks, focal, principal_point, landmarks, points, scores, activations
        self._check(*given)
        return self.stage.answer(*given)

    def _check(self, maps, masks, focal, principal_point, landmarks, points, scores, activations) -> None:
        size = self.inputs.size
        given = {
            "maps": (maps, (size, size, CHANNELS[self.inputs.channels])),
            "masks": (masks, (size, size)),
            "focal": (focal, ()),
            "principal_point": (principal_point, (2,)),
            "landmarks": (landmarks, (68, 2)),
            "points": (points, (NUM_POINTS, 3)),
        }
        seen = {"scores": (scores, (NUM_SCORES,)), "activations": (activations, (2, NUM_ACTIVATIONS))}
        check_batch(given | {name: one for name, one in seen.items() if one[0] is not None})

    @property
    def stage(self) -> HeadStage:
        """From crops to heads, as an argument of compiled functions; ``predict`` without its checks."""
        return HeadStage(
            state=self._state,
            own_model=self._own_model,
            places=self._places,
            answers=self._answers,
            embedding=self._embedding,
            transfer=self._transfer,
            model=self.head_model,
            fit=self._fit if self.refine else None,
            maps_rotation=self._maps_rotation,
            normals_rotation=self.normals_rotation,
            graph=self._graph,
            size=self.inputs.size,
            alignment=self.alignment,
            refine=self.refine,
            of_face_mesh=self.maps.startswith("face_mesh"),
        )

    def batch_of(
        self, faces: Sequence[FrontendFace], image_sizes: Sequence[tuple[int, int]], focals: Sequence[Focal]
    ) -> FaceBatch:
        """At most ``batch_size`` faces as ``predict`` and ``answer`` are given them; more than one are padded to it.

        Args:
            faces, image_sizes, focals: as ``from_faces``.
        """
        return FaceBatch.of_faces(
            faces,
            image_sizes,
            focals,
            size=self.inputs.size,
            channels=self.inputs.channels,
            padded_to=1 if len(faces) == 1 else self.batch_size,
            rotation=self._maps_rotation,
        )

    def _one_batch(
        self, faces: Sequence[FrontendFace], image_sizes: Sequence[tuple[int, int]], focals: Sequence[Focal]
    ) -> list[Head]:
        batch = self.batch_of(faces, image_sizes, focals)
        predicted = self.predict(*batch.inputs)
        if not (np.isnan(batch.closure).all() and np.isnan(batch.gaze).all()):
            predicted = see_eyes(
                self.head_model, predicted, jnp.asarray(batch.closure), jnp.asarray(batch.gaze)
            )
        return self._finished_heads(
            predicted, batch.normals, batch.mask, batch.crop, faces, image_sizes, focals
        )

    def _finished_heads(
        self,
        predicted: PredictedHeads,
        normals: Float[Array, "B S S 3"],
        masks: Float[Array, "B S S"],
        crop: Crop,
        faces: Sequence[FrontendFace],
        image_sizes: Sequence[tuple[int, int]],
        focals: Sequence[Focal],
    ) -> list[Head]:
        """Heads of the faces, which are the first of the batch, on the host."""
        jaw, eyes = (
            np.asarray(rotation_6d_to_axis_angle(jnp.asarray(x)))
            for x in (predicted.params.jaw, predicted.params.eyes)
        )
        predicted, normals, masks = jax.device_get((predicted, normals, masks))
        heads = []
        for i, (face, (height, width), focal) in enumerate(zip(faces, image_sizes, focals, strict=True)):
            intrinsics = np.array(
                [[focal.pixels, 0, width / 2], [0, focal.pixels, height / 2], [0, 0, 1]], np.float64
            )
            rotation, translation = predicted.camera.rotation[i], predicted.camera.translation[i]
            in_camera = predicted.landmarks[i].astype(np.float64) @ rotation.T + translation
            located = np.isfinite(face.landmarks_68[-NUM_INNER:]).any()
            points = np.zeros((0, 3), np.float32) if face.points_468 is None else face.points_468
            heads.append(
                Head(
                    vertices=predicted.vertices[i],
                    faces=self._faces,
                    rotation=rotation,
                    translation=translation,
                    intrinsics=intrinsics,
                    landmarks_2d=project_points(in_camera, intrinsics).astype(np.float32),
                    landmarks_3d=predicted.landmarks[i],
                    shape=predicted.params.shape[i],
                    expression=predicted.params.expression[i],
                    jaw_pose=jaw[i],
                    eyelids=predicted.params.eyelids[i],
                    eyes_pose=eyes[i],
                    head_model=self.head_model.name,
                    head_model_sha256=self.head_model_sha256,
                    focal_source=focal.source,
                    alignment=self.alignment if located else "network",
                    image_size=(int(height), int(width)),
                    crop=np.array([*crop.x0y0[i], crop.side[i]], np.float32),
                    input_normals=normals[i],
                    input_mask=masks[i],
                    frontend=getattr(self.frontend, "name", "maps"),
                    frontend_score=float(face.score),
                    frontend_landmarks=np.asarray(face.landmarks_68, np.float32),
                    frontend_points=np.asarray(points),
                    irises=np.zeros((0, 2), np.float32) if face.eyes is None else face.eyes.irises,
                    confidence=float(face.confidence),
                    region_confidence=np.array(
                        [face.region_confidence.get(name, np.nan) for name in REGIONS], np.float32
                    ),
                    checkpoint=self.checkpoint,
                    frontend_blendshapes=scores_of_units(face.blendshapes),
                )
            )
        return heads


class _Photo(NamedTuple):
    image: np.ndarray
    source: Path | None
    focal: Focal | FocalHints


def _pixels_wanted(focal: float | Focal | FocalHints | None) -> float:
    """What is said of a focal length; NaN for nothing."""
    if isinstance(focal, Focal):
        return focal.pixels
    if isinstance(focal, FocalHints):
        focal = focal.exif if focal.given is None else focal.given
    return float("nan") if focal is None else float(focal)


def _open_photos(
    given: Sequence[tuple[np.ndarray | str | Path, float | Focal | FocalHints | None, Path | None]],
) -> list[_Photo]:
    photos = []
    for image, focal, source in given:
        check_focal(focal)
        source, exif = as_source(source), None
        if isinstance(image, (str, Path)):
            source = Path(image)
            image, info = read_image(source)
            exif = info.focal
        if not isinstance(focal, (Focal, FocalHints)):
            focal = FocalHints(focal, exif)
        photos.append(_Photo(as_image(image), source, focal))
    return photos


def _one_failure_at_a_time(stage: Callable[[list[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """``stage`` on all items that are no exceptions; if it fails, on one after the other.

    Exceptions, those of before and those that come up, stay where their items were.
    """
    good = [item for item in items if not isinstance(item, Exception)]
    try:
        results = iter(stage(good))
    except Exception as error:
        alone = len(good) == 1
        results = iter([error] if alone else [_one_failure_at_a_time(stage, [item])[0] for item in good])
    return [item if isinstance(item, Exception) else next(results) for item in items]


def _checkpoint_frontend(name: str, pretrained: Pretrained, options: FrontendOptions | None) -> Frontend:
    """The named front end, set up as a checkpoint's input description asks.

    Raises:
        ValueError: an unknown name, or a checkpoint whose input no front end gives.
    """
    inputs = pretrained.inputs
    if inputs.normal_frame != "head" or not inputs.masked:
        raise ValueError(
            "front ends give maps of the face in the head frame; the checkpoint wants them in the "
            f"{inputs.normal_frame} frame{'' if inputs.masked else ' without a mask'}"
        )
    options = dataclasses.replace(
        options or FrontendOptions(), size=inputs.size, crop_scale=inputs.crop_scale
    )
    return make_frontend(name, options)


def _parameters_sha256(pretrained: Pretrained) -> str:
    """Of the network's parameters and calibrations as loaded: two checkpoints of one name are told apart."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((nnx.state(pretrained.network), dict(pretrained.calibration))):
        digest.update(np.ascontiguousarray(jax.device_get(leaf)).data)
    return digest.hexdigest()
