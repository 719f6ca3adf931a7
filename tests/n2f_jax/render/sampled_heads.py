"""Random heads as the paper samples them, cropped as in training."""

import jax

import flame_jax
from n2f_jax.data.sampler import SyntheticConfig, sample_camera, sample_params
from n2f_jax.geometry.camera import project
from n2f_jax.geometry.crop import crop_camera, landmark_crop


def sampled_heads(model, seed, count, size):
    """``(vertices, camera)`` of each, one at a time."""

    @jax.jit
    def sample(model, key):
        params_key, camera_key, *_ = jax.random.split(key, 4)
        config = SyntheticConfig()
        vertices, _ = flame_jax.decode(model, sample_params(params_key, model, config))
        camera = sample_camera(camera_key, config)
        crop = landmark_crop(project(flame_jax.landmarks68(model, vertices), camera), config.crop_scale)
        return vertices, crop_camera(camera, crop, size)

    for index in range(count):
        yield sample(model, jax.random.fold_in(jax.random.key(seed), index))
