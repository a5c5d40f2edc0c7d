"""HTML pages that need nothing else: they open from a disk, an artifact store or a mail.

Whoever writes a page escapes every text from outside; beside that a content security policy forbids the page to load or
send anything, so a video named `<script>` stays a name.
"""

from collections.abc import Mapping
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --quiet: #888; }
body { font: 14px/1.45 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 2rem 0 .4rem; overflow-wrap: anywhere; }
h2 small, caption { color: var(--quiet); font-weight: normal; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .8rem 0; }
.legend i { display: inline-block; width: .9em; height: .9em; border-radius: 2px; margin-right: .4em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
caption { text-align: left; padding-top: .5rem; }
th, td { text-align: right; padding: .1rem .9rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
summary { cursor: pointer; color: var(--quiet); }
[hidden] { display: none !important; }
"""


def html_page(title: str, body: str, style: str = "", script: str = "", *, plays: bool = False) -> str:
    """A whole document.

    Args:
        title: plain text.
        body: HTML, its texts escaped.
        style: rules besides those that all pages share.
        script: of the page itself; without one the policy forbids any.
        plays: whether it may play videos that it holds itself.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'" + ("; script-src 'unsafe-inline'" if script else "")
    policy += "; media-src data:" if plays else ""
    end = f"\n<script>{script}</script>" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style></head>\n"
        f"<body>\n{body}{end}\n</body></html>\n"
    )


def legend(colours: Mapping[str, str]) -> str:
    """A coloured square for each name."""
    entries = (f'<span><i style="background:{colour}"></i>{escape(label)}</span>' for label, colour in colours.items())
    return f'<div class="legend">{"".join(entries)}</div>'
