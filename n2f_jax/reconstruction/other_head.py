"""A head model other than the network's: what its answers, which are the open head's, are carried over by."""

from __future__ import annotations

import dataclasses
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
from n2f_jax.models.pretrained import HeadModelIdentity


@dataclasses.dataclass(frozen=True)
class OtherHead:
    """A user's head model beside the one that a network answers in.

    Attributes:
        source: the network's.
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
            ValueError: the model has no landmarks.
            AlignmentError: the open head finds no place on it.
            ImportError: libigl is not installed.
        """
        if not trained_for.differences(HeadModelIdentity.of(target)):
            return None
        source = flame_jax.load_open_head()
        if trained_for.differences(HeadModelIdentity.of(source)):
            return None
        if target.landmarks is None:
            raise ValueError(
                f"head model {target.name!r} has no landmark embedding, by which the open head is laid over it: put "
                "its landmark file beside it (docs/head_models.md)"
            )
        embedding = face_mesh_embedding(source)
        points = None if embedding is None else (np.asarray(embedding[0]), np.asarray(embedding[1]))
        found = kept_correspondence(source, target, path, points)
        return cls(source, completed(source, target, found), found)

    @property
    def embedding(self) -> tuple[jax.Array, jax.Array]:
        """Triangles and barycentrics of the face mesh's points on the target."""
        found = self.correspondence
        return jnp.asarray(found.point_faces), jnp.asarray(found.point_barycentric)

    def transfer(self, tables: HeadTables, answers: Float[Array, "U U"]) -> HeadTransfer:
        """The map of heads.

        Args:
            tables: of the target.
            answers: precision of the source's heads about the network's answers.
        """
        return HeadTransfer.make(self.source, self.target, self.correspondence, tables, answers)
