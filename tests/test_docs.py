"""What the documents name exists: files, subcommands, and every package in the README's tree."""

import re
from pathlib import Path

import pytest

from tadscale.cli import main

ROOT = Path(__file__).parents[1]
NAMED = ("README.md", "CONTRIBUTING.md", "cluster/README.md", "infra/README.md")
DOCUMENTS = [*(ROOT / name for name in NAMED), *sorted((ROOT / "docs").glob("*.md"))]
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|yaml|sh)\b")
BASES = ("", "tadscale")  # a path is named from the root of the tree, or from the library's
NOUNS = ("data", "registry")  # commands that take another
PLACEHOLDER = re.compile(
    r"(?:^|[/_])(?:[A-Z]{3,}|toy)[/_.]"
)  # NAME/network.py, backbones/toy.py: for the reader to make


def code(text: str) -> list[str]:
    """The pieces of a document that are code: spans in backticks, and the lines of indented and fenced blocks."""
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return lines + re.findall(r"`([^`\n]+)`", text)


def paths(document: Path) -> set[str]:
    return {path for path in PATH.findall(document.read_text()) if not PLACEHOLDER.search(path)}


def commands(text: str) -> set[tuple[str, ...]]:
    """Every `tadscale COMMAND` (with its second word, where the first is a noun); `a|b` is two."""
    called: set[tuple[str, ...]] = set()
    for piece in code(text):
        for first, second in re.findall(r"(?:^|[ /])(?<!--namespace )tadscale ([a-z|]+)(?: ([a-z|]+))?", piece):
            seconds = second.split("|") if first in NOUNS and second else [""]
            called |= {tuple(filter(None, (one, other))) for one in first.split("|") for other in seconds}
    return called


def commands_of_all_documents() -> list[tuple[str, ...]]:
    return sorted({words for document in DOCUMENTS for words in commands(document.read_text())})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(document):
    bases = [ROOT / base for base in BASES] + [document.parent]
    missing = [path for path in paths(document) if not any((base / path).exists() for base in bases)]
    assert not missing


@pytest.mark.parametrize("words", commands_of_all_documents(), ids=" ".join)
def test_commands_that_are_named_exist(words, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0, capsys.readouterr().err


def test_the_readme_s_tree_has_every_package():
    tree = (ROOT / "README.md").read_text()
    packages = [path.parent.relative_to(ROOT / "tadscale").as_posix() for path in ROOT.glob("tadscale/*/__init__.py")]
    packages += [path.parent.name for path in ROOT.glob("tadscale/runtime/*/__init__.py")]
    assert not [package for package in packages if f" {package}/" not in tree]


def test_the_checks_find_what_is_wrong(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("See `tadscale/nowhere.py` and `models/NAME/network.py`:\n\n    tadscale data mend|lint URL\n")
    assert paths(page) == {"tadscale/nowhere.py"}
    assert commands(page.read_text()) == {("data", "mend"), ("data", "lint")}
