"""Checks of the documentation that MkDocs runs after it has built the site.

`make docs` must give pages that can be read without a network, so a page that loads a script, a
style, a font or an image from another host ends the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LOADED = (
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"'\s>]+)",
    r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon|manifest))"
    r"[^>]*\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)",
)
LOADED_BY_STYLES = (
    r"url\(\s*[\"']?((?:https?:)?//[^\"')]+)",
    r"@import\s+[\"']((?:https?:)?//[^\"']+)",
)


class ForeignResource(Exception):
    """A built page would load something from another host."""


def foreign_resources(site: Path) -> list[str]:
    """What the pages and styles below `site` load from other hosts, each as `FILE: ADDRESS`."""
    found = []
    for pattern, expressions in (("*.html", LOADED), ("*.css", LOADED_BY_STYLES)):
        for file in sorted(site.rglob(pattern)):
            text = file.read_text(encoding="utf-8")
            for expression in expressions:
                found += [
                    f"{file.relative_to(site)}: {url}" for url in re.findall(expression, text)
                ]
    return found


def on_post_build(config: Any, **_: Any) -> None:
    """MkDocs calls this with its configuration when the site is complete."""
    found = foreign_resources(Path(config["site_dir"]))
    if found:
        raise ForeignResource("The site loads from other hosts:\n" + "\n".join(found))
