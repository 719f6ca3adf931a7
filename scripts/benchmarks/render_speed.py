"""``benchmark.py render``: the renderer beside a mature software rasteriser and a ray tracer, in turns in one run.

All draw the same heads: unit normals in the head frame and the face mask, read back to NumPy. llvmpipe (Mesa's OpenGL
on CPUs, through moderngl) gets vertices and normals of each head uploaded; Embree (through trimesh) builds its tree for
each head and answers which triangle each pixel's ray meets, no more. Whoever is not installed is left out.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from flame_jax import HeadModel

Draw = Callable[[], Any]
FACE_COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000, 200_000)
PIXEL_SIZES = (64, 128, 256, 512, 1024)


def in_turns(contenders: dict[str, Draw], rounds: int) -> dict[str, tuple[float, float]]:
    """Median and least milliseconds of each call, one after the other in every round; the first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, draw in contenders.items():
            start = time.perf_counter()
            draw()
            if number:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: (float(np.median(values)), min(values)) for name, values in times.items()}


class Scene:
    """A batch of one mesh in some poses, and what every contender needs of it.

    Args:
        vertices: ``(B, V, 3)`` head frame.
        topology: of the mesh.
        camera: ``B`` cameras.
        size: side of the image.
    """

    def __init__(self, vertices, topology, camera, size: int):
        import jax

        from n2f_jax.render import vertex_normals

        self.vertices, self.topology, self.camera, self.size = vertices, topology, camera, size
        self.batch = vertices.shape[0]
        self.normals = np.asarray(jax.jit(vertex_normals)(vertices, topology.faces))

    @classmethod
    def of_heads(cls, batch: int, size: int, model: HeadModel | None = None) -> Scene:
        """A head model, neutral and filling the crop, in small random rotations; None for the open head."""
        import jax
        import jax.numpy as jnp

        import flame_jax
        from flame_jax.rotations import euler_to_matrix
        from n2f_jax.geometry import Camera, crop_camera, frontal_rotation, landmark_crop, project
        from n2f_jax.render import HeadTopology

        model = flame_jax.load_open_head() if model is None else model
        angles = 0.3 * jax.random.normal(jax.random.key(0), (batch, 3))
        camera = Camera(
            rotation=frontal_rotation(euler_to_matrix(angles)),
            translation=jnp.broadcast_to(jnp.asarray([0.0, 0.0, 1.0]), (batch, 3)),
            focal=jnp.full(batch, 1000.0),
            principal_point=jnp.full((batch, 2), 500.0),
        )
        vertices, _ = flame_jax.decode(model, flame_jax.FlameParams.neutral(model, (batch,)))
        crop = landmark_crop(project(flame_jax.landmarks68(model, vertices), camera), 1.25)
        return cls(vertices, HeadTopology.from_model(model), crop_camera(camera, crop, size), size)

    @classmethod
    def of_sphere(cls, num_faces: int, size: int) -> Scene:
        """A sphere of about as many triangles, which fills the image."""
        import jax.numpy as jnp
        import trimesh

        from n2f_jax.geometry import Camera, frontal_rotation
        from n2f_jax.render import MeshTopology

        rings = max(4, round((num_faces / 8) ** 0.5))
        mesh = trimesh.creation.uv_sphere(radius=0.1, count=(rings, 2 * rings))
        camera = Camera(
            rotation=frontal_rotation(jnp.eye(3)[None]),
            translation=jnp.asarray([[0.0, 0.0, 1.0]]),
            focal=jnp.asarray([4.5 * size]),
            principal_point=jnp.full((1, 2), size / 2),
        )
        vertices = jnp.asarray(mesh.vertices, jnp.float32)[None]
        return cls(vertices, MeshTopology.from_faces(mesh.faces), camera, size)


def ours(scene: Scene) -> tuple[Draw, Draw]:
    """Forward, and forward + backward of a loss on normals and the antialiased mask by vertices and camera.

    A batch is spread over the devices there are (on CPUs: virtual ones, one a core).
    """
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    from n2f_jax.render import render_head

    def forward(topology, vertices, camera):
        maps = render_head(topology, vertices, camera, scene.size)
        return maps.normals, maps.mask

    def loss(vertices, camera, topology):
        maps = render_head(topology, vertices, camera, scene.size, antialias=True)
        return (maps.normals[..., 0] ** 2).mean() + ((maps.mask - 0.5) ** 2).mean()

    def backward(topology, vertices, camera):
        return jax.grad(loss, argnums=(0, 1))(vertices, camera, topology)

    arguments = (scene.topology, scene.vertices, scene.camera)
    count = np.gcd(scene.batch, len(jax.devices()))
    if count > 1:
        mesh = jax.make_mesh((count,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
        whole, split = PartitionSpec(), PartitionSpec("batch")
        specs = (whole, split, split)
        forward, backward = (
            jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
            for f in (forward, backward)
        )
        arguments = tuple(
            jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in zip(arguments, specs, strict=True)
        )

    def call(function):
        compiled = jax.jit(function)
        return lambda: jax.tree.map(np.asarray, compiled(*arguments))

    return call(forward), call(backward)


def llvmpipe(scene: Scene) -> Draw:
    """The same by OpenGL: a function that returns ``(B, H, W, 4)``, normals and mask.

    Raises:
        Exception: moderngl or Mesa's EGL is not installed.
    """
    import moderngl

    context = moderngl.create_standalone_context(backend="egl")
    renderer = context.info["GL_RENDERER"]
    if "llvmpipe" not in renderer:
        raise RuntimeError(f"OpenGL draws with {renderer}, not in software")
    program = context.program(
        vertex_shader="""#version 330
            in vec3 position; in vec3 normal;
            uniform mat3 rotation; uniform vec3 translation; uniform vec3 intrinsics; uniform float size;
            out vec3 direction;
            void main() {
                vec3 p = rotation * position + translation;
                vec2 pixel = intrinsics.x * p.xy + intrinsics.yz * p.z;
                float near = 0.01, far = 10.0;
                gl_Position = vec4(2.0 * pixel / size - p.z,
                                   (far + near) / (far - near) * p.z - 2.0 * far * near / (far - near), p.z);
                direction = normal;
            }""",
        fragment_shader="""#version 330
            in vec3 direction; uniform sampler2D region; out vec4 color;
            void main() {
                float drawn = texelFetch(region, ivec2(gl_PrimitiveID % 256, gl_PrimitiveID / 256), 0).r;
                color = drawn > 0.5 ? vec4(normalize(direction), 1.0) : vec4(0.0);
            }""",
    )
    faces = np.asarray(scene.topology.faces)
    # The mask goes by triangle: a texture of 256 columns says which are in it.
    region = np.zeros((-(-len(faces) // 256), 256), np.float32)
    region.reshape(-1)[: len(faces)] = np.asarray(scene.topology.region)
    context.texture((256, len(region)), 1, region.tobytes(), dtype="f4").use(0)
    vertices = np.asarray(scene.vertices)
    heads = [
        np.concatenate([vertices[i], scene.normals[i]], axis=1).astype("f4").tobytes()
        for i in range(scene.batch)
    ]
    buffer = context.buffer(heads[0])
    array = context.vertex_array(
        program,
        [(buffer, "3f 3f", "position", "normal")],
        context.buffer(faces.astype("i4").tobytes()),
    )
    size = (scene.size, scene.size)
    frame = context.framebuffer([context.texture(size, 4, dtype="f4")], context.depth_renderbuffer(size))
    frame.use()
    context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
    context.front_face = "cw"  # rows go down here
    program["size"].value = float(scene.size)
    camera = scene.camera
    rotations = [np.asarray(r).T.astype("f4").tobytes() for r in camera.rotation]
    translations = [tuple(map(float, t)) for t in camera.translation]
    intrinsics = [
        (float(f), float(c[0]), float(c[1]))
        for f, c in zip(camera.focal, camera.principal_point, strict=True)
    ]

    def draw():
        images = np.empty((scene.batch, scene.size, scene.size, 4), np.float32)
        for i in range(scene.batch):
            buffer.write(heads[i])
            program["rotation"].write(rotations[i])
            program["translation"].value = translations[i]
            program["intrinsics"].value = intrinsics[i]
            context.clear(0.0, 0.0, 0.0, 0.0)
            array.render()
            frame.read_into(images[i], components=4, dtype="f4")
        return images

    return draw


def embree(scene: Scene) -> Draw:
    """Which triangle each pixel's ray meets, the tree built anew for every head.

    Raises:
        ImportError: embreex is not installed.
    """
    import embreex  # noqa: F401
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    faces = np.asarray(scene.topology.faces)
    vertices = np.asarray(scene.vertices)
    rotation, translation = np.asarray(scene.camera.rotation), np.asarray(scene.camera.translation)
    focal, center = np.asarray(scene.camera.focal), np.asarray(scene.camera.principal_point)
    u, v = np.meshgrid(np.arange(scene.size) + 0.5, np.arange(scene.size) + 0.5)

    def draw():
        result = []
        for i in range(scene.batch):
            points = vertices[i] @ rotation[i].T + translation[i]
            mesh = trimesh.Trimesh(points, faces, process=False)
            rays = np.stack(
                [(u - center[i, 0]) / focal[i], (v - center[i, 1]) / focal[i], np.ones_like(u)], -1
            ).reshape(-1, 3)
            result.append(RayMeshIntersector(mesh).intersects_first(np.zeros_like(rays), rays))
        return np.array(result)

    return draw


def contenders(scene: Scene) -> dict[str, Draw]:
    """Everyone who is installed, ours first."""
    forward, backward = ours(scene)
    others: dict[str, Draw] = {}
    for name, make in (("llvmpipe", llvmpipe), ("Embree", embree)):
        try:
            others[name] = make(scene)
        except Exception as error:
            print(f"without {name}: {str(error).splitlines()[0]}")
    return {"n2f_jax": forward, **others, "n2f_jax, forward + backward": backward}


def compare(sizes: list[int], batches: list[int], rounds: int) -> None:
    """Prints the table."""
    import jax

    device = jax.devices()[0]
    print(
        f"{len(jax.devices())} × {device.platform} {device.device_kind}, "
        f"{platform.processor() or platform.machine()}, jax {jax.__version__}"
    )
    print(
        f"{'size':>5} {'batch':>5}  {'who':<28} {'ms/frame median':>15} {'least':>7} {'frames/s':>9}  of llvmpipe"
    )
    for size in sizes:
        for batch in batches:
            scene = Scene.of_heads(batch, size)
            draws = contenders(scene)
            if "llvmpipe" in draws:
                _check(draws)
            results = in_turns(draws, max(5, rounds // batch) if batch > 1 else rounds)
            for name, (median, least) in results.items():
                share = f"{median / results['llvmpipe'][0]:.2f}" if "llvmpipe" in results else ""
                print(
                    f"{size:>5} {batch:>5}  {name:<28} {median / batch:>15.2f} {least / batch:>7.2f} "
                    f"{1e3 * batch / median:>9.0f}  {share:>11}",
                    flush=True,
                )


def compare_models(paths: list[Path], sizes: list[int], batches: list[int], rounds: int) -> None:
    """Prints a table of the open head and other head models, all drawn in turns."""
    import jax

    import flame_jax

    models = [flame_jax.load_open_head(), *map(flame_jax.load_head_model, paths)]
    device = jax.devices()[0]
    print(f"{len(jax.devices())} × {device.platform} {device.device_kind}, jax {jax.__version__}")
    for size in sizes:
        for batch in batches:
            draws: dict[str, Draw] = {}
            for model in models:
                scene = Scene.of_heads(batch, size, model)
                name = f"{model.name}, {model.num_faces} triangles"
                draws[name], draws[f"{name}, forward + backward"] = ours(scene)
                with contextlib.suppress(Exception):
                    draws[f"{name}, llvmpipe"] = llvmpipe(scene)
            results = in_turns(draws, max(5, rounds // batch) if batch > 1 else rounds)
            for name, (median, least) in results.items():
                print(
                    f"{size:>5} {batch:>5}  {name:<58} {median / batch:>8.2f} {least / batch:>7.2f}",
                    flush=True,
                )


def _check(draws: dict[str, Draw]) -> None:
    """Both must have drawn the same."""
    normals, mask = draws["n2f_jax"]()
    theirs = draws["llvmpipe"]()
    differs = float((np.abs(mask - theirs[..., 3]) > 0.5).mean())
    both = (mask > 0.5) & (theirs[..., 3] > 0.5)
    off = np.degrees(np.arccos(np.clip((normals * theirs[..., :3]).sum(-1)[both], -1, 1)))
    print(f"masks differ at {100 * differs:.2f} % of the pixels, normals by {np.median(off):.3f}° (median)")
    if differs > 0.02 or np.median(off) > 0.1:
        raise SystemExit("the two do not draw the same heads: no comparison")


def growth(path: Path, rounds: int) -> None:
    """Measures one frame over numbers of triangles and pixels, and plots it."""
    import jax

    def measure(scene: Scene) -> dict[str, float]:
        draws = {"n2f_jax": ours(scene)[0]}
        with contextlib.suppress(Exception):
            draws["llvmpipe"] = llvmpipe(scene)
        jax.clear_caches()
        return {name: median for name, (median, _) in in_turns(draws, rounds).items()}

    by_faces = {}
    for count in FACE_COUNTS:
        scene = Scene.of_sphere(count, 256)
        by_faces[scene.topology.faces.shape[0]] = measure(scene)
    by_size = {size: measure(Scene.of_heads(1, size)) for size in PIXEL_SIZES}
    for title, table in (("triangles (sphere, 256²)", by_faces), ("side (open head)", by_size)):
        print(f"{title:>26}" + "".join(f"{name + ', ms':>16}" for name in next(iter(table.values()))))
        for key, row in table.items():
            print(f"{key:>26}" + "".join(f"{value:>16.2f}" for value in row.values()))
    plot(path, by_faces, by_size)
    print(f"plot: {path}")


def budgets(count: int, size: int) -> None:
    """Prints how full the renderer's budgets are on heads from the paper's sampler, cropped as in training."""
    import jax
    import jax.numpy as jnp
    from tqdm import tqdm

    import flame_jax
    from n2f_jax.data.sampler import SyntheticConfig, held_out_key, make_batch
    from n2f_jax.geometry.camera import to_camera
    from n2f_jax.render import HeadTopology, render_head
    from n2f_jax.render.antialias import default_max_pairs
    from n2f_jax.render.rasterizer import default_queue_length
    from n2f_jax.render.snapping import snap_faces
    from n2f_jax.render.tiles import tile_counts

    model = flame_jax.load_open_head()
    topology = HeadTopology.from_model(model)

    @jax.jit
    def sample(model, topology, index):
        batch = make_batch(held_out_key(0, index), model, topology, SyntheticConfig(image_size=size), 1)
        vertices, _ = flame_jax.decode(model, batch["params"])
        return jax.tree.map(lambda x: x[0], (vertices, batch["camera"]))

    @jax.jit
    def used(topology, vertices, camera):
        snapped = snap_faces(
            to_camera(vertices, camera), topology.faces, camera.focal, camera.principal_point, 0.01
        )
        tiles, crossing, _ = tile_counts(snapped, (size, size), True)
        mask = render_head(topology, vertices, camera, size).mask > 0.5
        pairs = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
        return jnp.stack([tiles.sum(), pairs, crossing.sum()])

    counts = []
    for index in tqdm(range(count), unit="head"):
        counts.append(np.asarray(used(topology, *sample(model, topology, jnp.asarray(index)))))
    tiles, pairs, crossing = np.array(counts).T
    print(f"{count} heads at {size}²; triangles that cross the near plane: {crossing.sum()}")
    queue = default_queue_length(topology.faces.shape[0], (size, size))
    for name, values, budget in (
        ("tiles, of the queue's", tiles, queue),
        ("border pairs, of at most", pairs, default_max_pairs((size, size))),
    ):
        row = "  ".join(f"{q:g} %: {np.percentile(values, q):.0f}" for q in (0, 5, 50, 95, 99, 100))
        print(f"{name:<25} {budget}:  {row};  over it: {(values > budget).sum()}")


def plot(path: Path, by_faces: dict[int, dict[str, float]], by_size: dict[int, dict[str, float]]) -> None:
    """Two panels, milliseconds a frame over triangles and over the image's side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, table, label in (
        (axes[0], by_faces, "triangles (a sphere that fills 256²)"),
        (axes[1], by_size, "side of the image, pixels (the open head)"),
    ):
        for name, marker in (("n2f_jax", "o"), ("llvmpipe", "s")):
            points = [(key, row[name]) for key, row in table.items() if name in row]
            if points:
                axis.plot(*zip(*points, strict=True), marker=marker, label=name)
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="ms a frame, read back")
        axis.set_xticks(list(table), [f"{key:,}" for key in table], rotation=30, minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=130)
