"""Draws any mesh with the renderer: triangles, normals, depth, texture coordinates, mask, and the mask's derivative.

    python scripts/render_mesh.py head.glb --out sheet.png [--yaw 25] [--pitch 5] [--size 512]

Takes .obj, .ply, .stl, .off, .glb and .npz (vertices, faces), y up. Without a mesh: the open head.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("mesh", type=Path, nargs="?", help="mesh file; the open head if left out")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    parser.add_argument("--yaw", type=float, default=25.0, help="degrees the mesh is turned to its left")
    parser.add_argument("--pitch", type=float, default=5.0, help="degrees it is turned forwards")
    parser.add_argument("--size", type=int, default=512, help="side of a panel, pixels")
    flags = parser.parse_args()

    import numpy as np
    from PIL import Image

    from n2f_jax.mesh.triangle_mesh import MeshError
    from n2f_jax.visualization.mesh_sheet import TexturedMesh, mesh_sheet, open_head_mesh, read_textured_mesh

    try:
        mesh: TexturedMesh = read_textured_mesh(flags.mesh) if flags.mesh else open_head_mesh()
    except (MeshError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sheet = mesh_sheet(mesh, flags.yaw, flags.pitch, flags.size)
    Image.fromarray(np.asarray(sheet)).save(flags.out, quality=90)
    print(f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles → {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
