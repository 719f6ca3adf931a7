"""MkDocs hook (``mkdocs.yml``): the pages of the site that do not lie in docs/.

README.md becomes the first page, RESULTS.md, CHANGELOG.md, CONTRIBUTING.md and the notices pages beside docs/'s own,
with links turned from the repository's layout to the site's; and every folder of the two packages gets a page of
reference from its docstrings. Links to files that the site has not (code, licences) keep their text only.
"""

from __future__ import annotations

import functools
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# A file of the repository → its page.
PAGES = {
    "README.md": "index.md",
    "RESULTS.md": "RESULTS.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "third_party/README.md": "third_party.md",
    "flame_jax/assets/OPEN_HEAD_LICENSE.md": "open_head_licence.md",
}
PACKAGES = ("flame_jax", "n2f_jax")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```\s*?$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    rooms = {name: text for package in PACKAGES for name, text in reference(ROOT / package).items()}
    for name, text in rooms.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    files.append(File.generated(config, "reference/index.md", content=index(rooms)))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages of the reference join the navigation, so that none is forgotten."""
    section = next(entry for entry in config.nav if "Reference" in entry)
    rooms = [name for package in PACKAGES for name in reference(ROOT / package)]
    section["Reference"] += [{name: f"reference/{name}.md"} for name in rooms]
    notices = [{"What others made": "third_party.md"}, {"Licence of the open head": "open_head_licence.md"}]
    section["Reference"] += notices
    return config


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository become links between pages."""
    path = page.file.src_uri  # type: ignore[attr-defined]
    source = next((name for name, made in PAGES.items() if made == path), f"docs/{path}")
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda link: _turned(link, source, path, files), part)
        for part in _FENCE.split(markdown)
    )


def _turned(link: re.Match[str], source: str, page: str, files: Files) -> str:
    picture, text, target = link.groups()
    where, _, anchor = target.partition("#")
    if "://" in target or not where:
        return link.group(0)
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), where))
    made = PAGES.get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
    if made is None:
        if not (ROOT / file).exists():
            return link.group(0)  # reported by MkDocs
        return text
    turned = posixpath.relpath(made, posixpath.dirname(page) or ".")
    return f"{picture}[{text}]({turned}{'#' + anchor if anchor else ''})"


@functools.cache
def reference(package: Path) -> dict[str, str]:
    """Page by folder of a package: its modules, in the order of their names."""
    pages = {}
    for init in sorted(package.rglob("__init__.py")):
        folder = init.parent
        name = ".".join(folder.relative_to(package.parent).parts)
        modules = [f"{name}.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
        described = _first_line(init)
        blocks = [f"::: {module}" for module in modules]
        pages[name] = "\n\n".join([f"# {name}", described, *blocks]) + "\n"
    return pages


def index(rooms: dict[str, str]) -> str:
    rows = [f"| [{name}]({name}.md) | {text.splitlines()[2]} |" for name, text in rooms.items()]
    return "\n".join(["# Reference", "", "| package | what is in it |", "|---|---|", *rows]) + "\n"


def _first_line(path: Path) -> str:
    match = re.match(r'"""(.+?)(?:"""|\n)', path.read_text(encoding="utf-8"))
    return match.group(1) if match else ""
