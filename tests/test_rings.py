"""The three rings and their floors: imports point down only, and ring 1 is light enough to be carried to a consumer."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tadscale"
# From the ground up, ring by ring: a module imports from its own floor and from those below. A floor is a module or a
# package of the library; what lies in `runtime/` has floors of its own.
RINGS: dict[int, tuple[str, ...]] = {
    1: (
        "",
        "errors",
        "credentials",
        "paths",
        "config",
        "segments",
        "losses",
        "metrics",
        "gate",
        "weights",
        "flow",
        "models",
    ),
    2: ("data", "retrain", "network", "engine", "serving", "report"),
    3: (
        "runtime",
        "runtime.cluster",
        "runtime.tracking",
        "runtime.stage",
        "runtime.pipeline",
        "runtime.training",
        "runtime.evaluation",
        "runtime.planning",
        "runtime.models",
        "runtime.jobs",
        "runtime.retrain",
        "runtime.grid",
    ),
    4: ("cli", "__main__"),
}
FLOORS = [floor for ring in RINGS.values() for floor in ring]
CLUSTER_PACKAGES = {"ray", "deepspeed", "mlflow", "s3fs", "boto3"}
# WebDataset brings torch along, which fetching processes do without: `data` imports it where it writes or indexes shards,
# and not before.
LATE_PACKAGES = {"webdataset"}
# The wrapper that MLflow itself loads, and nothing imports: it names MLflow's base class.
MLFLOW_WRAPPERS = {"tadscale.serving.pyfunc"}


def module_name(path: Path) -> str:
    return ".".join(("tadscale", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def floor_of(module: str) -> str:
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["runtime"] else 1])


def ring_of(module: str) -> int:
    return next(ring for ring, floors in RINGS.items() if floor_of(module) in floors)


def imports(path: Path) -> set[str]:
    """What a file imports, wherever in it that stands: also inside functions, also for type checkers alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update(
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            )
    return found


OWN = {module: sorted(imports(path) & set(MODULES)) for module, path in MODULES.items()}
INNER = [module for module in MODULES if ring_of(module) <= 2 and module not in MLFLOW_WRAPPERS]


def test_every_module_has_a_floor_and_every_floor_a_module():
    assert {floor_of(module) for module in MODULES} == set(FLOORS)


def test_every_package_says_what_lives_there():
    silent = [str(path) for path in PACKAGE.rglob("__init__.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    own = FLOORS.index(floor_of(module))
    for target in OWN[module]:
        assert FLOORS.index(floor_of(target)) <= own, f"{module} imports {target}, which stands above it"


def test_no_modules_import_each_other_in_a_circle():
    """Not by way of others, and not for a type checker either."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for target in OWN[module]:
                visit(target, [*way, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


@pytest.mark.parametrize("module", INNER)
def test_inner_rings_know_no_cluster_package(module):
    refused = CLUSTER_PACKAGES if floor_of(module) == "data" else CLUSTER_PACKAGES | LATE_PACKAGES
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & refused


def test_inner_rings_import_in_a_process_without_the_cluster_packages():
    """Whatever they pull in by way of others, too."""
    code = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(CLUSTER_PACKAGES | LATE_PACKAGES)!r}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
for name in {INNER!r}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_command_line_starts_without_heavy_packages():
    code = "import sys, tadscale.cli; sys.exit(bool({'torch', 'ray', 'mlflow', 'deepspeed'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
