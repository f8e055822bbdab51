"""Links from a page to a file of the repository lead to a page of the site that shows the file: the
site is whole without the repository. Links whose text is the name of a page show its title.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)((?:#[^)\s]*)?)(?=\))")
NAMED = re.compile(r"\[(?:docs/)?[\w/]+\.(?:md|ipynb)\]\(([^)\s#]+)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown", ".json": "json"}
HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"

# Files outside of docs/ that are pages, and files that have another name as pages.
INCLUDED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
ORIGINS = {page: file for file, page in INCLUDED.items()}
PAGES = INCLUDED | {
    "README.md": "index.md",
    **{
        f"docs/notebooks/{path.name}": f"notebooks/{path.stem}.md"
        for path in ROOT.glob("docs/notebooks/*.ipynb")
    },
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages from the top of the repository, and one for each file that a page links to."""
    for file, page in INCLUDED.items():
        files.append(File.generated(config, page, content=_text(file)))
    linked = {
        _target(page, link)
        for page in files.documentation_pages()
        for link, _ in LINK.findall(page.content_string)
    }
    for path in sorted(linked):
        place = _place(path)
        if files.get_file_from_path(place) is not None or not (ROOT / path).is_file():
            continue
        if place.endswith(".md"):
            files.append(File.generated(config, place, content=_shown(path)))
        else:
            files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Point the links of a page to their places in the site, and name them by titles."""
    folder = posixpath.dirname(page.file.src_uri)
    if page.file.src_uri.startswith("source/"):
        return markdown

    def replaced(link: re.Match[str]) -> str:
        return posixpath.relpath(_place(_target(page.file, link[1])), folder or ".") + link[2]

    titles = dict(_titles(config.nav))

    def named(link: re.Match[str]) -> str:
        title = titles.get(_place(_target(page.file, link[1])))
        return f"[*{title}*]({link[1]}" if title else link[0]

    return LINK.sub(replaced, NAMED.sub(named, markdown))


def _titles(navigation: Any) -> Iterator[tuple[str, str]]:
    """The places and titles of the pages of a navigation."""
    for entry in navigation:
        for title, inside in entry.items():
            yield from [(inside, title)] if isinstance(inside, str) else _titles(inside)


def _target(page: File, link: str) -> str:
    """The path in the repository that a link of a page means."""
    origin = ORIGINS.get(page.src_uri, f"docs/{page.src_uri}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def _place(path: str) -> str:
    """The path in the site of a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}" if path.endswith(".png") else f"source/{path}.md"


def _shown(path: str) -> str:
    language = LANGUAGES.get(posixpath.splitext(path)[1], "text")
    return f"{HIDDEN}# {path}\n\n~~~~~~{language}\n{_text(path)}\n~~~~~~\n"


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
