import os
from pathlib import Path

import pytest

from n2f_jax.cli.preprocess import main as preprocess
from n2f_jax.preprocessing import run
from n2f_jax.preprocessing.inputs import InputError, parse_inputs, skipped_files, walk


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
        ("set/**", {"set/a.jpg", "set/sub/b.PNG", "set/sub/deep/c.jpeg", "set/clip.mp4", "set/notes.txt"}),
        ("**/sub/**/b.*", {"{}/set/sub/b.PNG"}),
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


PNG = b"\x89PNG\r\n\x1a\n"


def test_images_by_content_and_what_is_skipped(tree):
    (tree / "set" / "IMG_0001").write_bytes(PNG)
    (tree / "set" / "sub" / "photo.dat").write_bytes(PNG)
    (tree / "set" / "letter").write_text("no picture")
    (tree / "set" / "out").mkdir()
    (tree / "set" / "out" / "settings.json").touch()
    inputs = parse_inputs([str(tree / "set"), str(tree / "set" / "*.jpg")])
    for _ in range(2):  # the run walks twice, to count and to do
        found = {source.key for source in walk(inputs, tree / "set" / "out", (0, 1))}
        assert found == {"set/a.jpg", "set/sub/b.PNG", "set/sub/deep/c.jpeg", "set/clip.mp4", "set/IMG_0001",
                         "set/sub/photo.dat"}  # fmt: skip
        skipped = skipped_files(inputs)
        assert skipped.count == 2 and set(skipped.names) == {"set/notes.txt", "set/letter"}
    next(walk(inputs, tree / "set" / "out", (0, 1)))  # a walk that was cut short has not seen all
    assert skipped_files(inputs).count == 2
    parts = []
    for shard in range(3):
        list(walk(inputs, tree / "set" / "out", (shard, 3)))
        parts.append(skipped_files(inputs).count)
    assert sum(parts) == 2


def test_of_a_pattern_nothing_is_skipped_that_was_not_asked_for(tree):
    inputs = parse_inputs([str(tree / "set/**/*.jpg")])
    assert [source.key for source in walk(inputs, Path("nowhere"), (0, 1))] == ["set/a.jpg"]
    assert skipped_files(inputs).count == 0


def test_linked_folders_are_entered_once(tree):
    (tree / "set" / "again").symlink_to(tree / "set" / "sub")
    (tree / "set" / "m").symlink_to(tree / "other")
    (tree / "set" / "n").symlink_to(tree / "other")
    assert keys([tree / "set"]) == {
        *(
            "set/a.jpg",
            "set/sub/b.PNG",
            "set/sub/deep/c.jpeg",
            "set/clip.mp4",
            "set/m/a.jpg",
            "set/m/set/a.jpg",
        )
    }
    # A pattern names its folders: the one that matches is entered, whatever else leads there.
    assert keys([tree / "set/[n]/*.jpg"]) == {"set/n/a.jpg"}
    assert keys([tree / "set/**/again/*.PNG"]) == {"set/again/b.PNG"}
    (tree / "set" / "loop").symlink_to(tree)
    assert keys([tree / "set/**/c.jpeg"]) == {"set/sub/deep/c.jpeg"}


def test_links_in_a_circle_are_skipped_and_listed(tree):
    (tree / "set" / "x.jpg").symlink_to("y")
    (tree / "set" / "y").symlink_to("x.jpg")
    inputs = parse_inputs([str(tree / "set")])
    assert "set/x.jpg" not in {source.key for source in walk(inputs, Path("nowhere"), (0, 1))}
    assert (
        skipped_files(inputs).count == 3
        and "set/x.jpg (this link cannot be followed" in skipped_files(inputs).text()
    )


def test_the_command_lists_what_it_skipped(tree, monkeypatch, capsys):
    def walk_only(inputs, output, *_, **__):
        assert len(list(walk(inputs, Path(output), (0, 1)))) == 4
        return run.Summary()

    monkeypatch.setattr(run, "run", walk_only)
    assert preprocess([str(tree / "set"), "--out", str(tree / "out")]) == 0
    assert "skipped 1 file: set/notes.txt\n" in capsys.readouterr().out
