"""Two free photographs to heads, then the paths of the pictures.

    python scripts/demo.py [--out demo_output]

The photographs come with installed packages: Eileen Collins (NASA, public domain; scikit-image) and Grace
Hopper (US Navy, public domain; matplotlib). They are copied to OUT/photos and go through
n2f reconstruct.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from n2f_jax.cli.reconstruct import main as reconstruct


def copy_photos(folder: Path) -> list[Path]:
    """Copies of the two photographs as files.

    Raises:
        ImportError: scikit-image or matplotlib is missing (the ``demo`` extra).
    """
    import matplotlib
    import skimage.data
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    photos = [folder / "eileen_collins.png", folder / "grace_hopper.jpg"]
    if not photos[0].exists():
        Image.fromarray(skimage.data.astronaut()).save(photos[0])
    if not photos[1].exists():
        sample = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
        shutil.copy(sample, photos[1])
    return photos


def show(picture: Path) -> bool:
    """Opens a picture in the desktop's viewer, if there is a desktop; never fails."""
    if os.environ.get("CI"):
        return False
    if sys.platform == "darwin":
        command = ["open", str(picture)]
    elif sys.platform == "win32":
        command = ["cmd", "/c", "start", "", str(picture)]
    elif os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        command = ["xdg-open", str(picture)]
    else:
        return False
    try:
        quiet = subprocess.DEVNULL
        subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output"), metavar="DIR")
    flags, rest = parser.parse_known_args()
    try:
        photos = copy_photos(flags.out / "photos")
    except (ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    code = reconstruct([*map(str, photos), "--out", str(flags.out), *rest])
    if code == 0:
        summary = json.loads((flags.out / "summary.json").read_text(encoding="utf-8"))
        files = [face["files"].get("picture") for photo in summary["photos"] for face in photo["faces"]]
        pictures = [(flags.out / file).resolve() for file in files if file]
        print("look at:", *(f"  {picture}" for picture in pictures), sep="\n")
        for picture in pictures:
            show(picture)
    return code


if __name__ == "__main__":
    sys.exit(main())
