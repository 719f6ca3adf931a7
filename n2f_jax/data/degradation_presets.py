"""Settings of ``SyntheticConfig``'s degradations: each alone to look at, and all together to train with."""

from __future__ import annotations

Setting = dict[str, float | bool | str]

# Moderate, all together: ``config.data.update(ESTIMATED)``. Chosen by eye; no ablation stands behind a number.
ESTIMATED: Setting = {
    "normal_blur": 0.008,
    "normal_noise_deg": 3.0,
    "mirror_shift": 0.004,
    "eight_bit": True,
    "mask_erosion": 0.02,
    "mask_dilation": 0.02,
    "occluder_share": 0.15,
    "bar_share": 0.1,
    "hair_share": 0.3,
    "lower_face_share": 0.1,
    "crop_centre_jitter": 0.02,
    "crop_scale_jitter": 0.04,
}

# What the small stage-1 config and the small open sets take for the error of the free front end's 468 points.
FRONT_END: Setting = {"point_noise": 0.008, "point_z_scale": 0.06}

# The errors that were measured of the two face meshes, instead.
FRONT_END_MEASURED: dict[str, Setting] = {
    version: {"point_noise": 0.0, "point_z_scale": 0.0, "point_errors": version} for version in ("v1", "v2")
}

# Each alone, strong enough to judge by eye; stronger than one would train with.
STRONG: dict[str, Setting] = {
    "normal_blur": {"normal_blur": 0.03},
    "normal_noise_deg": {"normal_noise_deg": 8.0},
    "mirror_shift": {"mirror_shift": 0.015, "normal_noise_deg": 4.0},
    "eight_bit": {"eight_bit": True},
    "mask_erosion": {"mask_erosion": 0.06},
    "mask_dilation": {"mask_dilation": 0.08},
    "occluder_share": {"occluder_share": 1.0},
    "bar_share": {"bar_share": 1.0},
    "hair_share": {"hair_share": 1.0},
    "lower_face_share": {"lower_face_share": 1.0},
    "crop jitter": {"crop_centre_jitter": 0.08, "crop_scale_jitter": 0.15},
}

# None of them, and no sample of the free front end's.
CLEAN: Setting = {name: type(value)(0) for name, value in ESTIMATED.items()} | {"front_end_share": 0.0}
