import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from n2f_jax.metrics.map_errors import map_errors


def test_map_errors_on_maps_whose_errors_are_known():
    """Turned by 10°: 10 degrees. Half of a mask: IoU a half. Masks that do not meet: 90 degrees and 0."""
    turn = Rotation.from_euler("y", 10, degrees=True).as_matrix()
    normals = np.broadcast_to(np.array([0.0, 0.0, 1.0], np.float32), (2, 8, 8, 3))
    mask = np.ones((2, 8, 8), np.float32)
    mask[1, :, 4:] = 0.0
    half = np.zeros((2, 8, 8), np.float32)
    half[:, :, :4] = 1.0
    half[1] = 1.0 - half[1]
    turned = (normals @ turn.T).astype(np.float32)
    found = map_errors(*map(jnp.asarray, (turned, mask, normals, half)))
    np.testing.assert_allclose(found["normals_degrees"], [10.0, 90.0], atol=1e-3)
    np.testing.assert_allclose(found["mask_iou"], [0.5, 0.0])
