"""How often gradient descent through the renderer finds a head's pose again, from normals and mask alone.

    python scripts/recover_poses.py [--heads 100] [--size 128] [--steps 150]

Random heads and cameras as the paper samples them, cropped as in training. The start is off by --degrees about a random
axis through the head's origin and --metres in a random direction. A pose is recovered when it ends within 1° and 5 mm.
Prints the rate for normals in the camera frame and in the head frame (the hard case: they do not turn with the head,
so only their place in the image says how it is turned).
"""

import argparse
import dataclasses
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--size", type=int, default=128, help="side of the images, pixels")
    parser.add_argument("--degrees", type=float, default=10.0)
    parser.add_argument("--metres", type=float, default=0.02)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()

    import numpy as np
    from tqdm import tqdm

    from n2f_jax.fitting.pose_descent import PoseDescentConfig
    from n2f_jax.fitting.pose_recovery import PoseTrials, recovered

    trials = PoseTrials(flags.size, flags.degrees, flags.metres, flags.seed)
    for frame in ("camera", "head"):
        config = dataclasses.replace(PoseDescentConfig(), steps=flags.steps, normal_frame=frame)
        begin = time.perf_counter()
        results = [trials.run(index, config) for index in tqdm(range(flags.heads), desc=frame, unit="head")]
        degrees, millimetres = np.array(results).T
        rate = int(recovered(degrees, millimetres).sum())
        print(
            f"{frame}-frame normals: {rate} of {flags.heads} within 1° and 5 mm; "
            f"median {np.median(degrees):.2f}° {np.median(millimetres):.2f} mm, "
            f"95 % within {np.percentile(degrees, 95):.2f}° {np.percentile(millimetres, 95):.2f} mm; "
            f"{(time.perf_counter() - begin) / flags.heads:.2f} s a head"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
