"""The repository's Markdown -> pages of the site, when mkdocs builds: links that leave `docs/`, and what is generated.

The same files read well on GitHub. Here a link to another file of the repository becomes one to GitHub, and a comment
`<!-- generated: NAME -->` becomes what the code says today, so that a reference page is never out of date.
"""

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "components"), str(ROOT / "pipeline"), str(Path(__file__).parent)]

import command_line  # noqa: E402
import settings_tables  # noqa: E402

GENERATED = {
    "command_line": command_line.reference,
    "components": settings_tables.components,
    "training": settings_tables.training,
}
# Pages whose text stands elsewhere in the repository.
ELSEWHERE = {
    "results.md": "pipeline/bloomz_haystack/benchmark/RESULTS.md",
    "changelog.md": "CHANGELOG.md",
}
LOGO = ROOT / "pipeline/bloomz_haystack/service/page/icons/bloom.svg"
_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")
_MARK = re.compile(r"^<!-- generated: (\w+) -->$", flags=re.MULTILINE)
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", flags=re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the site's files, with the pages and the picture that stand elsewhere."""
    files.append(File.generated(config, "bloom.svg", abs_src_path=str(LOGO)))
    for name, source in ELSEWHERE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page's text for the site."""
    name = page.file.src_uri
    source = PurePosixPath(ELSEWHERE.get(name, f"docs/{name}"))
    markdown = _MARK.sub(lambda mark: GENERATED[mark[1]](), markdown)

    def on_site(link: re.Match[str]) -> str:
        return link[1] + _site_link(link[2], source, name, config.extra["repository"])

    parts = _CODE.split(markdown)  # every other one is code, where nothing is a link
    return "".join(part if place % 2 else _LINK.sub(on_site, part) for place, part in enumerate(parts))


def on_post_page(output: str, page: Page, **_: Any) -> str:  # noqa: ANN401
    """Return a page's HTML: the language that a screen reader should read it in; one colon of a docstring's two."""
    output = output.replace("::</p>", ":</p>")
    return output.replace('<html lang="en"', '<html lang="fr"', 1) if page.file.src_uri.startswith("fr/") else output


def _site_link(link: str, source: PurePosixPath, name: str, repository: str) -> str:
    """Return a link as the site wants it: to a page where there is one, else to the file on GitHub."""
    target = os.path.normpath(source.parent / link)
    pages = {path: page for page, path in ELSEWHERE.items()}
    if target in pages or target.startswith("docs/"):
        return os.path.relpath(pages.get(target, target.removeprefix("docs/")), PurePosixPath(name).parent)
    if not (ROOT / target).exists():
        return link  # mkdocs says that it leads nowhere
    return f"{repository}/{'tree' if (ROOT / target).is_dir() else 'blob'}/main/{target}"
