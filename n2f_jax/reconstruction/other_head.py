"""A head model other than the open head, and the open head laid over it: what carries a network's answers over, and
what networks of the model's own need to know of it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import flame_jax
from flame_jax import HeadModel
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.fitting.correspondence_cache import kept_correspondence
from n2f_jax.fitting.head_correspondence import HeadCorrespondence, completed
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.head_transfer import HeadTransfer
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from n2f_jax.models.pretrained import HeadModelIdentity

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class OtherHead:
    """A user's head model beside the open head.

    Attributes:
        source: the open head.
        target: the user's, with what its files lack and the source has (``head_correspondence.completed``).
        correspondence: of the two.
    """

    source: HeadModel
    target: HeadModel
    correspondence: HeadCorrespondence

    @classmethod
    def beside(
        cls, trained_for: HeadModelIdentity, target: HeadModel, path: Path | None = None
    ) -> OtherHead | None:
        """Of a network and a user's model; None where the network is for that model, or for one that is not at hand.

        Args:
            trained_for: the network's head model.
            target: the user's.
            path: its file or folder, beside which the correspondence is kept.

        Raises:
            ValueError, AlignmentError, ImportError: as ``laid_over``.
        """
        if not trained_for.differences(HeadModelIdentity.of(target)):
            return None
        if trained_for.differences(HeadModelIdentity.of(flame_jax.load_open_head())):
            return None
        return cls.laid_over(target, path)

    @classmethod
    def laid_over(
        cls, target: HeadModel, path: Path | None = None, say: Callable[[str], None] = _log.info
    ) -> OtherHead:
        """The open head laid over a user's model, with the face mesh's points.

        Args:
            target: the user's.
            path: its file or folder, beside which the correspondence is kept.
            say: told what takes its time.

        Raises:
            ValueError: the model has no landmarks.
            AlignmentError: the open head finds no place on it.
            ImportError: libigl is not installed.
        """
        source = flame_jax.load_open_head()
        embedding = face_mesh_embedding(source)
        points = None if embedding is None else (np.asarray(embedding[0]), np.asarray(embedding[1]))
        found = kept_correspondence(source, target, path, points, say)
        return cls(source, completed(source, target, found), found)

    @property
    def embedding(self) -> tuple[jax.Array, jax.Array]:
        """Triangles and barycentrics of the face mesh's points on the target."""
        found = self.correspondence
        return jnp.asarray(found.point_faces), jnp.asarray(found.point_barycentric)

    @property
    def places(self) -> FaceMeshPlaces:
        """The same for a network of the target's own."""
        found = self.correspondence
        return FaceMeshPlaces(found.point_faces, found.point_barycentric, found.rotation)

    def transfer(self, tables: HeadTables, answers: Float[Array, "U U"]) -> HeadTransfer:
        """The map of heads.

        Args:
            tables: of the target.
            answers: precision of the source's heads about the network's answers.
        """
        return HeadTransfer.make(self.source, self.target, self.correspondence, tables, answers)
