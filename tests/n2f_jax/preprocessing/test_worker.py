"""What training reads of a stored face is what inference sees of the photograph. The networks must be in the cache."""

import dataclasses

import numpy as np
import skimage.data

from n2f_jax.data.face_views import face_view, landmark_square
from n2f_jax.data.preprocessed import read_face, write_face
from n2f_jax.frontends.registry import FrontendOptions, make_frontend
from n2f_jax.geometry.focal import Focal
from n2f_jax.preprocessing.settings import Settings
from n2f_jax.preprocessing.worker import stored_face


def test_the_networks_view_of_a_stored_face_is_the_front_ends_own(tmp_path):
    image, options = skimage.data.astronaut(), FrontendOptions(size=48, max_faces=1)
    settings = Settings(options=options, margin=1.25)
    (direct,) = make_frontend("face_mesh", options)(image)
    (wide,) = make_frontend("face_mesh", settings.frontend_options)(image)
    assert settings.stored_size == 60 and wide.mask.shape == (60, 60)
    write_face(
        tmp_path / "x.face.zip", stored_face(wide, image.shape[:2], Focal(600.0, "given"), "astronaut.png")
    )
    face = read_face(tmp_path / "x.face.zip")
    view = face_view(face, landmark_square(face.landmarks_68, options.crop_scale), 48)

    np.testing.assert_array_equal(view["mask"], direct.mask)
    chord = np.linalg.norm(view["normals"] - direct.normals, axis=-1)
    assert np.degrees(chord.max()) < 0.45  # 8 bits
    scale, corner = 48 / float(direct.crop.side), np.asarray(direct.crop.x0y0)
    np.testing.assert_allclose(view["landmarks_2d"], scale * (direct.landmarks_68 - corner), atol=1e-3)
    np.testing.assert_allclose(view["focal"], scale * 600, rtol=1e-5)
    np.testing.assert_allclose(view["principal_point"], scale * (256 - corner), atol=1e-3)
    assert face.provenance == dataclasses.asdict(wide.provenance) and face.focal_source == "given"
