"""A reader of rigs written from the glTF 2.0 specification alone: NumPy and JSON, nothing of what writes them."""

import json
import struct
from pathlib import Path

import numpy as np

DTYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Gltf:
    """A binary glTF file with one skinned mesh."""

    def __init__(self, path):
        data = Path(path).read_bytes()
        magic, version, length = struct.unpack("<4sII", data[:12])
        assert magic == b"glTF" and version == 2 and length == len(data)
        size, kind = struct.unpack("<I4s", data[12:20])
        assert kind == b"JSON" and size % 4 == 0
        self.json = json.loads(data[20 : 20 + size])
        rest, kind = struct.unpack("<I4s", data[20 + size : 28 + size])
        assert kind == b"BIN\0" and 28 + size + rest == len(data)
        self.binary = data[28 + size :]
        (self.primitive,) = self.json["meshes"][0]["primitives"]
        self.names = self.json["meshes"][0]["extras"]["targetNames"]

    def view(self, index):
        view = self.json["bufferViews"][index]
        start = view.get("byteOffset", 0)
        assert start + view["byteLength"] <= len(self.binary)
        return self.binary[start : start + view["byteLength"]]

    def array(self, index):
        accessor = self.json["accessors"][index]
        dtype, width = DTYPES[accessor["componentType"]], SIZES[accessor["type"]]
        start = accessor.get("byteOffset", 0)
        assert start % np.dtype(dtype).itemsize == 0
        values = np.frombuffer(self.view(accessor["bufferView"]), dtype, accessor["count"] * width, start)
        if accessor["type"] == "MAT4":
            return values.reshape(-1, 4, 4).swapaxes(1, 2)  # stored column by column
        return values.reshape(-1, width) if width > 1 else values

    def attribute(self, name):
        return self.array(self.primitive["attributes"][name])

    @property
    def faces(self):
        return self.array(self.primitive["indices"]).reshape(-1, 3).astype(int)

    def node(self, name):
        return next(i for i, node in enumerate(self.json["nodes"]) if node.get("name") == name)

    def texture(self):
        material = self.json["materials"][self.primitive["material"]]["pbrMetallicRoughness"]
        source = self.json["textures"][material["baseColorTexture"]["index"]]["source"]
        return bytes(self.view(self.json["images"][source]["bufferView"]))

    def state(self, seconds=None):
        """Nodes' rotations (x, y, z, w) and translations, and targets' weights: as stored, or at a moment."""
        nodes = self.json["nodes"]
        turns = {i: np.array(node.get("rotation", [0, 0, 0, 1]), float) for i, node in enumerate(nodes)}
        places = {i: np.array(node.get("translation", [0, 0, 0]), float) for i, node in enumerate(nodes)}
        weights = np.array(self.json["meshes"][0].get("weights", np.zeros(len(self.names))), float)
        if seconds is not None:
            (animation,) = self.json["animations"]
            for channel in animation["channels"]:
                sampler = animation["samplers"][channel["sampler"]]
                assert sampler.get("interpolation", "LINEAR") == "LINEAR"
                times = self.array(sampler["input"]).astype(float)
                values = self.array(sampler["output"]).astype(float)
                target = channel["target"]
                if target["path"] == "weights":
                    weights = self.between(times, values.reshape(len(times), -1), seconds)
                elif target["path"] == "translation":
                    places[target["node"]] = self.between(times, values, seconds)
                else:
                    value = self.between(
                        times, values, seconds
                    )  # near enough to slerp, and the same at frames
                    turns[target["node"]] = value / np.linalg.norm(value)
        return turns, places, weights

    @staticmethod
    def between(times, values, seconds):
        return np.stack([np.interp(seconds, times, column) for column in values.T])

    def matrices(self, turns, places):
        """Global transforms of all nodes."""
        parents = {
            child: i for i, node in enumerate(self.json["nodes"]) for child in node.get("children", [])
        }

        def matrix(i):
            x, y, z, w = turns[i]
            local = np.eye(4)
            local[:3, :3] = [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
            local[:3, 3] = places[i]
            return matrix(parents[i]) @ local if i in parents else local

        return [matrix(i) for i in range(len(self.json["nodes"]))]

    def vertices(self, seconds=None, turns=None, weights=None):
        """The skinned mesh in the world: as stored, or at a moment; ``turns`` and ``weights`` by name instead."""
        stored, places, values = self.state(seconds)
        for name, quaternion in (turns or {}).items():
            stored[self.node(name)] = quaternion
        if weights is not None:
            values = np.zeros(len(self.names))
            for name, value in weights.items():
                values[self.names.index(name)] = value
        points = self.attribute("POSITION").astype(float)
        for value, target in zip(values, self.primitive["targets"], strict=True):
            if value:
                points = points + value * self.array(target["POSITION"])
        (skin,) = self.json["skins"]
        everything = self.matrices(stored, places)
        joints = np.stack([everything[i] for i in skin["joints"]]) @ self.array(skin["inverseBindMatrices"])
        influences, shares = self.attribute("JOINTS_0"), self.attribute("WEIGHTS_0").astype(float)
        blended = np.einsum("vk,vkij->vij", shares, joints[influences])
        return np.einsum("vij,vj->vi", blended[:, :3, :3], points) + blended[:, :3, 3]

    def pixels(self, points, height, width):
        """Where the file's camera sees points of the world; pixels, u = 0 at the left edge."""
        camera = self.json["cameras"][0]["perspective"]
        turns, places, _ = self.state()
        to_camera = np.linalg.inv(self.matrices(turns, places)[self.node("camera")])
        x, y, z = (points @ to_camera[:3, :3].T + to_camera[:3, 3]).T
        tangent = np.tan(camera["yfov"] / 2)
        u = x / -z / (tangent * camera["aspectRatio"])
        return np.stack([(u + 1) * width / 2, (1 - y / -z / tangent) * height / 2], axis=1)
