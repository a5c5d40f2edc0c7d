"""Which of tadscale's own files an exported model carries: those that its entry point imports, and no others."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import tadscale

PACKAGE = "tadscale"
ROOT = Path(tadscale.__file__).parent
ENTRY = "tadscale.serving.predictor"
FORBIDDEN = tuple(f"{PACKAGE}.{part}" for part in ("runtime", "report", "engine", "flow", "cli"))
"""The cluster, training and motion have no place at a consumer's."""


def shipped_files() -> list[Path]:
    """The files, relative to the package's folder, sorted: the closure of the entry point's imports.

    An import counts wherever it stands in a file, except under `TYPE_CHECKING`.

    Raises:
        RuntimeError: the closure reaches what must not be shipped.
    """
    reached, waiting = set[str](), {ENTRY}
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting |= set(_parents(module)) | set(_imports(_source(module)))
    strays = sorted(module for module in reached if module.startswith(FORBIDDEN))
    if strays:
        raise RuntimeError(f"{ENTRY} imports {', '.join(strays)}, which an exported model must not carry")
    return sorted(_source(module).relative_to(ROOT) for module in reached)


def copy_shipped_files(folder: Path) -> Path:
    """Copy the files into `folder/tadscale`, which is returned."""
    for name in shipped_files():
        target = folder / PACKAGE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder / PACKAGE


def _source(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _parents(module: str) -> Iterator[str]:
    """The packages around a module: Python runs their `__init__` first."""
    parts = module.split(".")
    return (".".join(parts[:depth]) for depth in range(1, len(parts)))


def _imports(source: Path) -> Iterator[str]:
    """The modules of this package that a file imports, by absolute names (the only ones in use here)."""
    nodes = list(_run_time_nodes(ast.parse(source.read_bytes())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return (name for name in names if name.split(".")[0] == PACKAGE and _source(name).is_file())


def _run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from _run_time_nodes(node)
