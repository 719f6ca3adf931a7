"""The temporal prior: what moves has white accelerations, what is seen of it has white noise, and a clip tells both.

Of each channel y(t) the smooth track x is the least of

    Σ_t w_t (x_t − y_t)² / r  +  Σ_k v_k (second difference of x)_k² / q

over all frames at once, which is what a Kalman filter and its Rauch–Tung–Striebel smoother find for that model; here
it is one banded system a channel. Strength is no setting. r, the front end's noise, is what the clip shows at
frequencies at which people do not move, and at most the error that was measured of the front end; q, the motion's, is
that under which the smoother errs least, by Stein's unbiased estimate over the clip's own spectrum. Both halves have
Student's tails, by reweighting: a blink or a jump of the eyes is not smoothed away, and a frame that is off does not
pull its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import solveh_banded

# Degrees of freedom of Student's t: of the motion (jumps are common), and of the noise.
_NU_MOTION, _NU_NOISE = 3.0, 6.0
_REWEIGHTED = 4
# Ratios q/r that are tried, at a unit time step: from hardly moving to not smoothed at all.
_RATIOS = np.geomspace(1e-6, 1e3, 55)
_LEAST = 1e-18
_SHORT = 48  # frames up to which all channels are solved together
_WINDOW = 32  # frames of a periodogram
_FEWEST = 12  # second differences that tell noise from motion
_QUICK = 2.0  # radians a frame from which all is noise: 8 Hz at 25 frames a second


@dataclasses.dataclass(frozen=True)
class Noise:
    """Of C channels, at a time step of one frame.

    Attributes:
        seen: ``(C,)`` r: variance of what is seen of a frame.
        motion: ``(C,)`` q: variance of the second difference.
    """

    seen: Float[np.ndarray, " C"]
    motion: Float[np.ndarray, " C"]


def measure_noise(parts: Sequence[Float[np.ndarray, "n C"]], most: Float[np.ndarray, " C"]) -> Noise:
    """Noise and motion of channels, from parts of the clip without a gap.

    Args:
        parts: evenly spaced frames of each.
        most: variances that the noise cannot exceed: of the front end's whole error.

    Returns:
        Where the parts are too short to tell, a quarter of ``most`` as noise, and as much motion.
    """
    powers: list[np.ndarray] = []
    frequencies = np.fft.rfftfreq(_WINDOW, 1.0)[1:] * 2 * np.pi
    for part in parts:
        second = np.diff(np.asarray(part, np.float64), 2, axis=0)
        if len(second) < _FEWEST:
            continue
        for start in range(0, max(len(second) - _WINDOW, 0) + 1, _WINDOW // 2):
            piece = second[start : start + _WINDOW]
            taper = np.hanning(len(piece) + 2)[1:-1, None]
            power = np.abs(np.fft.rfft(piece * taper, _WINDOW, axis=0)) ** 2 / (taper**2).sum()
            powers.append(power[1:])
    if not powers:
        return Noise(0.25 * most, 0.25 * most)
    windows = np.stack(powers)  # (windows, W/2, C)
    gain = (2.0 * np.sin(frequencies / 2.0)) ** 4
    quick = frequencies > _QUICK
    seen = np.median((windows[:, quick] / gain[quick][None, :, None]).mean(axis=1), axis=0)
    seen = np.clip(seen, _LEAST, most)
    # What a smoother of stiffness 1/ratio leaves of each frequency, and what it is expected to err by.
    passed = (_RATIOS[:, None] / (_RATIOS[:, None] + gain[None]))[..., None]  # (ratios, W/2, 1)
    power = windows.mean(axis=0)[None] / gain[None, :, None]
    risk = ((1.0 - passed) ** 2 * power + 2.0 * seen * passed).mean(axis=1)
    ratio = _RATIOS[risk.argmin(axis=0)]
    return Noise(seen, np.maximum(ratio * seen, _LEAST))


def smooth(
    values: Float[np.ndarray, "T C"],
    seconds: Float[np.ndarray, " T"],
    trust: Float[np.ndarray, "T C"],
    noise: Noise,
    step: float,
) -> Float[np.ndarray, "T C"]:
    """The likeliest track of frames without a cut.

    Args:
        values: what was seen; anything where ``trust`` is 0.
        seconds: rising moments.
        trust: precision of each frame over the usual one; 0 where nothing was seen: the prior bridges it.
        noise: of these channels.
        step: seconds of a usual frame, to which ``noise`` belongs.
    """
    values, trust = np.asarray(values, np.float64), np.asarray(trust, np.float64)
    frames = len(values)
    known = trust > 0
    values = np.where(known, values, 0.0)
    if frames < 3:
        # Two frames have no second difference: what is not seen is what is seen in the other.
        mean = (values * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.where(known, values, mean[None])
    rows, spread = second_differences(seconds, step)
    if frames <= _SHORT:
        return _smooth_together(values, trust / noise.seen, rows, spread[:, None] * noise.motion)
    track = np.empty_like(values)
    for channel in range(values.shape[1]):
        track[:, channel] = _smooth_channel(
            values[:, channel],
            trust[:, channel] / noise.seen[channel],
            rows,
            spread * noise.motion[channel],
        )
    return track


def second_differences(
    seconds: Float[np.ndarray, " T"], step: float
) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, " K"]]:
    """Coefficients of the second differences of three frames each at their own moments, K = T − 2, and their variance
    over that of evenly spaced frames: white acceleration over longer steps adds up."""
    gaps = np.maximum(np.diff(np.asarray(seconds, np.float64)) / step, 1e-3)
    before, after = gaps[:-1], gaps[1:]
    # 2·divided difference: 1, −2, 1 where both gaps are one step.
    rows = 2.0 * np.stack(
        [1.0 / (before * (before + after)), -1.0 / (before * after), 1.0 / (after * (before + after))], axis=1
    )
    return rows, 2.0 / (before + after)


def _smooth_channel(values, precision, rows, variance):
    """One channel; (T,) precision of what is seen, (K, 3) second differences of variance (K,)."""
    known = precision > 0
    if known.sum() == 0:
        return np.zeros_like(values)
    if known.sum() < 3:
        places = np.flatnonzero(known)
        return np.interp(np.arange(len(values)), places, values[places])
    of_noise, of_motion = np.ones_like(values), np.ones(len(rows))
    supported = _triples(known).all(axis=1)  # a jump within a gap is nothing that was seen
    for _ in range(_REWEIGHTED):
        track = _solved(values, precision * of_noise, rows, of_motion / variance)
        jumps = (rows * _triples(track)).sum(axis=1) ** 2 / variance
        of_motion = np.where(supported, (_NU_MOTION + 1.0) / (_NU_MOTION + jumps), 1.0)
        off = precision * (values - track) ** 2
        of_noise = np.where(known, (_NU_NOISE + 1.0) / (_NU_NOISE + off), 0.0)
    return track


def _smooth_together(values, precision, rows, variance):
    """``_smooth_channel`` of (T, C) values at once: the same answers, quicker where frames are few."""
    known = precision > 0
    enough = known.sum(axis=0) >= 3
    # Channels of which hardly anything was seen are none of this.
    filled = np.where(enough, precision, 1.0)
    of_noise, of_motion = np.ones_like(values), np.ones_like(variance)
    supported = known[:-2] & known[1:-1] & known[2:]
    for _ in range(_REWEIGHTED):
        track = _solved_together(values, filled * of_noise, rows, of_motion / variance)
        second = rows[:, :1] * track[:-2] + rows[:, 1:2] * track[1:-1] + rows[:, 2:] * track[2:]
        of_motion = np.where(supported, (_NU_MOTION + 1.0) / (_NU_MOTION + second**2 / variance), 1.0)
        off = filled * (values - track) ** 2
        of_noise = np.where(known | ~enough, (_NU_NOISE + 1.0) / (_NU_NOISE + off), 0.0)
    for channel in np.flatnonzero(~enough):
        track[:, channel] = _smooth_channel(
            values[:, channel], precision[:, channel], rows, variance[:, channel]
        )
    return track


def _solved_together(values, precision, rows, stiffness):
    """Pentadiagonal systems by LDLᵀ, one row after the other for all channels."""
    count = len(values)
    main = precision + 1e-12 * precision.max(axis=0)
    first, second = np.zeros_like(main), np.zeros_like(main)  # to the row before, and the one before that
    for i in range(3):
        main[i : count - 2 + i] += stiffness * rows[:, i : i + 1] ** 2
    for i in range(2):
        first[i + 1 : count - 1 + i] += stiffness * (rows[:, i] * rows[:, i + 1])[:, None]
    second[2:] = stiffness * (rows[:, 0] * rows[:, 2])[:, None]
    # What is all but certain beside what is all but free cancels to nothing.
    least = 1e-14 * main
    track = precision * values
    for i in range(count):
        if i > 1:
            second[i] /= main[i - 2]
            first[i] -= second[i] * main[i - 2] * first[i - 1]
        if i > 0:
            first[i] /= main[i - 1]
            main[i] -= first[i] ** 2 * main[i - 1]
            track[i] -= first[i] * track[i - 1]
        if i > 1:
            main[i] -= second[i] ** 2 * main[i - 2]
            track[i] -= second[i] * track[i - 2]
        main[i] = np.maximum(main[i], least[i])
    track /= main
    for i in range(count - 2, -1, -1):
        track[i] -= first[i + 1] * track[i + 1]
        if i + 2 < count:
            track[i] -= second[i + 2] * track[i + 2]
    return track


def _solved(values, precision, rows, stiffness):
    count = len(values)
    bands = np.zeros((3, count))
    weighted = rows * stiffness[:, None]
    bands[2] = precision + 1e-12 * precision.max()
    for i in range(3):
        bands[2, i : count - 2 + i] += weighted[:, i] * rows[:, i]
    for i in range(2):
        bands[1, i + 1 : count - 1 + i] += weighted[:, i] * rows[:, i + 1]
    bands[0, 2:] = weighted[:, 0] * rows[:, 2]
    return solveh_banded(bands, precision * values, check_finite=False)


def _triples(track):
    return np.stack([track[:-2], track[1:-1], track[2:]], axis=1)


def runs(flags: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """Beginnings and ends of where flags are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
