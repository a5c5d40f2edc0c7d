"""The three rings: imports point inwards only, and ring 1 is light enough to be carried to a consumer."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tadscale"
RINGS = {
    "config": 1,
    "segments": 1,
    "flow": 1,
    "models": 1,
    "losses": 1,
    "metrics": 1,
    "data": 2,
    "engine": 2,
    "serving": 2,
    "runtime": 3,
    "report": 3,
    "job": 4,
    "cli": 4,
    "__main__": 4,
    "__init__": 1,
}
INNER = sorted(name for name, ring in RINGS.items() if ring <= 2 and name != "__init__")
# Only the edge may be imported from further in, by the job's own stages and what foretells them, and by nothing else.
JOB_READERS = {
    "runtime/stages.py",
    "runtime/evaluation.py",
    "runtime/publish.py",
    "runtime/rates.py",
    "runtime/forecast.py",
}
CLUSTER_PACKAGES = {"ray", "deepspeed", "mlflow", "webdataset", "s3fs", "boto3"}
# The wrapper that MLflow itself loads, and nothing imports: it names MLflow's base class.
MLFLOW_WRAPPERS = {"serving/pyfunc.py"}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path, *, at_top_only: bool = False) -> set[str]:
    """Modules that a file imports at run time (`if TYPE_CHECKING` left out)."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if at_top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_has_a_ring():
    assert {_part(path) for path in _modules()} == set(RINGS)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_inwards(path):
    own = RINGS[_part(path)]
    for module in _imports(path):
        if not module.startswith("tadscale."):
            continue
        target = module.split(".")[1]
        if target == "job" and str(path.relative_to(PACKAGE)) in JOB_READERS:
            continue
        assert RINGS[target] <= own, f"{path.name} (ring {own}) imports {module} (ring {RINGS[target]})"


@pytest.mark.parametrize(
    "path", [path for path in _modules() if RINGS[_part(path)] <= 2], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_inner_rings_know_no_cluster_package(path):
    if str(path.relative_to(PACKAGE)) in MLFLOW_WRAPPERS:
        return
    assert not {module.split(".")[0] for module in _imports(path)} & CLUSTER_PACKAGES


def test_inner_rings_import_in_a_process_without_the_cluster_packages():
    """Whatever they pull in by way of others, too."""
    names = [
        "tadscale." + str(path.relative_to(PACKAGE)).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in _modules()
        if RINGS[_part(path)] <= 2 and str(path.relative_to(PACKAGE)) not in MLFLOW_WRAPPERS | {"__init__.py"}
    ]
    code = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(CLUSTER_PACKAGES)!r}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_command_line_starts_without_heavy_packages():
    code = "import sys, tadscale.cli; sys.exit(bool({'torch', 'ray', 'mlflow', 'deepspeed'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
