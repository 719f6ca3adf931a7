import os
from pathlib import Path

import pytest

from n2f_jax.preprocessing.inputs import InputError, parse_inputs, walk


@pytest.fixture
def tree(tmp_path):
    for name in ("set/a.jpg", "set/sub/b.PNG", "set/sub/deep/c.jpeg", "set/clip.mp4", "set/notes.txt",
                 "set/.hidden.jpg", "set/.cache/d.jpg", "other/a.jpg", "other/set/a.jpg", "strange.name"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def keys(inputs, exclude="nowhere", shard=(0, 1)):
    found = [source.key for source in walk(parse_inputs([str(i) for i in inputs]), Path(exclude), shard)]
    assert len(found) == len(set(found))
    return set(found)


def test_a_folder_at_any_depth(tree):
    assert keys([tree / "set"]) == {"set/a.jpg", "set/sub/b.PNG", "set/sub/deep/c.jpeg", "set/clip.mp4"}


def test_files_and_folders_of_one_name_need_names(tree):
    assert keys([tree / "set/a.jpg", tree / "other/a.jpg"]) == {"set/a.jpg", "other/a.jpg"}
    with pytest.raises(InputError, match=r"both be called 'set'.*NAME="):
        keys([tree / "set", tree / "other/set"])
    named = keys([tree / "set", f"second={tree / 'other/set'}"])
    assert {"set/a.jpg", "second/a.jpg"} < named
    with pytest.raises(InputError, match="without a slash"):
        keys([f"a/b={tree / 'set'}"])


def test_a_file_within_a_folder_is_taken_once(tree):
    assert keys([tree / "set", tree / "set/a.jpg", tree / "set"]) == keys([tree / "set"])


def test_any_suffix_where_a_file_is_named(tree):
    assert keys([tree / "strange.name"]) == {f"{tree.name}/strange.name"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("set/*.jpg", {"set/a.jpg"}),
        ("set/**/*.jp*g", {"set/a.jpg", "set/sub/deep/c.jpeg"}),
        ("set/*/*", {"set/sub/b.PNG"}),
        ("*/a.jpg", {"{}/set/a.jpg", "{}/other/a.jpg"}),
        ("set/[ab].*", {"set/a.jpg"}),
    ],
)
def test_patterns(tree, pattern, expected):
    assert keys([tree / pattern]) == {key.format(tree.name) for key in expected}


def test_names_do_not_hang_on_where_the_data_lie(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    assert keys(["set"]) == keys([tree / "set"]) == keys(["./other/../set/"])
    (tree / "link").symlink_to(tree / "set")
    assert keys(["link"]) == {key.replace("set/", "link/", 1) for key in keys(["set"])}


def test_the_output_and_circles_are_left_out(tree):
    (tree / "set" / "loop").symlink_to(tree / "set")
    assert keys([tree / "set"], exclude=tree / "set" / "sub") == {"set/a.jpg", "set/clip.mp4"}


def test_of_pixel3dmms_folders_only_the_photographs(tree):
    for name in ("rgb/00000.jpg", "cropped/00000.jpg", "seg_og/00000.png", "p3dmm/normals/00000.png"):
        (tree / "data" / "anna" / name).parent.mkdir(parents=True)
        (tree / "data" / "anna" / name).touch()
    assert keys([tree / "data"]) == {"data/anna/rgb/00000.jpg"}
    assert keys([tree / "data" / "anna"]) == {"anna/rgb/00000.jpg"}


def test_shards_are_disjoint_and_whole(tree):
    (tree / "many").mkdir()
    for i in range(300):
        (tree / "many" / f"{i}.jpg").touch()
    shards = [keys([tree / "many"], shard=(i, 4)) for i in range(4)]
    assert set.union(*shards) == keys([tree / "many"]) and sum(map(len, shards)) == 300
    assert min(map(len, shards)) > 45  # 75 ± 4 σ


def test_what_is_not_there(tree):
    for missing in ("nothing.jpg", "nowhere/*.jpg"):
        with pytest.raises(InputError, match=r"no such file|no folder"):
            keys([tree / missing])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed(tree):
    (tree / "set" / "sub").chmod(0)
    (problem,) = [s for s in walk(parse_inputs([str(tree / "set")]), Path("nowhere"), (0, 1)) if s.problem]
    assert problem.key == "set/sub" and "cannot be listed" in problem.problem
