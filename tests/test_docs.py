"""What the documentation names exists: files, functions, commands."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "RESULTS.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
PATH = re.compile(
    r"\b((?:n2f_jax|flame_jax|scripts|configs|tests|docs)/[\w./-]+\.(?:py|md|sh|npz|jpg|png))\b"
)


def names_in(path: Path) -> set[str]:
    """Top-level functions, classes and constants of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_the_papers_map_points_at_code():
    text = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8")
    places = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(places) > 40
    missing = [f"{path}::{name}" for path, name in places if name not in names_in(ROOT / path)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = set(PATH.findall(text))
    named |= {f"docs/{name}" for name in re.findall(r"\]\((\w+\.md)\)", text) if page.parent.name == "docs"}
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing


def argument_lists():
    """Every documented function, its parameters, and the names under Args of its docstring."""
    for path in [*(ROOT / "flame_jax").rglob("*.py"), *(ROOT / "n2f_jax").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            _, _, section = (ast.get_docstring(node) or "").partition("Args:\n")
            section = re.split(r"\n(?=\S)", section)[0]
            entries = re.findall(r"^    ([\w*][\w*, ]*?)(?: \([^)]*\))?:", section, re.MULTILINE)
            described = [name.strip(" *") for entry in entries for name in entry.split(",")]
            arguments = node.args
            known = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            known += [one for one in (arguments.vararg, arguments.kwarg) if one]
            yield f"{path.relative_to(ROOT)}:{node.lineno}", {one.arg for one in known}, described


def test_the_arguments_that_docstrings_describe_are_there():
    """One entry may stand for several, which no tool's own check understands."""
    described = 0
    for where, known, names in argument_lists():
        assert set(names) <= known, where
        described += len(names)
    assert described > 1000
