"""A small untrained network, and a front end that finds faces where the test has put them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flame_jax
from flame_jax.rotations import euler_to_matrix
from n2f_jax.frontends.base import Frontend, FrontendFace
from n2f_jax.geometry import Camera, frontal_rotation, landmark_crop, project
from n2f_jax.models.n2fnet import N2FNet, n2fnet_config
from n2f_jax.models.parameters import map_with_path, to_dict
from n2f_jax.models.pretrained import InputSpec, save_pretrained
from n2f_jax.reconstruction.reconstructor import Reconstructor

SIZE, CROP_SCALE, BATCH = 32, 1.4, 3


def place_head(model, image_size, degrees=(6.0, -12.0, 4.0), at=(0.05, -0.03, 0.9), focal=None) -> tuple:
    """The mean head seen by a known camera: what a perfect front end says of it, and that camera."""
    height, width = image_size
    camera = Camera(
        rotation=frontal_rotation(euler_to_matrix(jnp.radians(jnp.asarray(degrees, jnp.float32)))),
        translation=jnp.asarray(at, jnp.float32),
        focal=jnp.float32(focal or 1.2 * max(image_size)),
        principal_point=jnp.asarray([width / 2, height / 2], jnp.float32),
    )
    landmarks = np.asarray(project(flame_jax.landmarks68(model, model.v_template), camera))
    face = FrontendFace(
        normals=np.zeros((SIZE, SIZE, 3), np.float32),
        mask=np.ones((SIZE, SIZE), np.float32),
        crop=landmark_crop(landmarks, CROP_SCALE),
        landmarks_68=landmarks,
        score=0.9,
    )
    return face, camera


@dataclasses.dataclass
class FakeFrontend(Frontend):
    """Goes by the image's brightness: 0 no face, up to 150 one, up to 220 two, above it fails."""

    model: flame_jax.HeadModel
    name: str = "fake"

    def detect(self, images, sources):
        return [self.faces(image) for image in images]

    def faces(self, image):
        brightness = float(image.mean())
        if brightness < 10:
            return []
        if brightness > 220:
            raise RuntimeError("this front end cannot stand bright images")
        far = place_head(self.model, image.shape[:2], at=(-0.1, 0.0, 1.4))[0]
        near = place_head(self.model, image.shape[:2])[0]
        return [near] if brightness < 150 else [far, near]


@pytest.fixture(scope="session")
def checkpoint(open_head, tmp_path_factory):
    """A folder with an untrained network: whatever it sees, it answers the mean head."""
    config = n2fnet_config("tiny", input_size=SIZE, width=32, depth=1, num_heads=1, mlp_width=32)
    config = dataclasses.replace(config, head_num_heads=1, head_mlp_ratio=1)
    # All zeros: initialising takes longer than running, and the last layers start at zero anyway.
    abstract = to_dict(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0))))
    network = map_with_path(
        lambda path, leaf: np.full(leaf.shape, path.endswith("periods"), np.float32), abstract
    )
    inputs = InputSpec(size=SIZE, crop_scale=CROP_SCALE)
    folder = tmp_path_factory.mktemp("checkpoint") / "untrained"
    return save_pretrained(folder, network, config, head_model=open_head, inputs=inputs)


@pytest.fixture(scope="session")
def load(checkpoint, open_head):
    """``load(alignment)`` → the reconstructor, each made once."""
    made = {}

    def reconstructor(alignment="landmarks") -> Reconstructor:
        if alignment not in made:
            made[alignment] = Reconstructor.from_pretrained(
                checkpoint,
                open_head,
                FakeFrontend(open_head),
                alignment=alignment,
                refine=0,
                batch_size=BATCH,
            )
        return made[alignment]

    return reconstructor
