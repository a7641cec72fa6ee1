"""The layers of the package: a module imports only lower layers.

The sources are parsed, so an import inside a function counts, too.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import cnnbench

PACKAGE = Path(cnnbench.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PLUGINS = PACKAGE.parent / "hydra_plugins"

# From top to bottom. A part may import itself and parts of lower layers.
LAYERS = (
    {"__main__", "api"},
    {"cli"},
    {"commands"},
    {"sweeps"},
    {"reports"},
    {"training"},
    {"reference", "trackers"},
    {"analysis"},
    {"models", "data", "runs"},
    {"config"},
    {"errors"},
)
PARTS = set().union(*LAYERS)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def label(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imports(source: str, module: str = "cnnbench") -> set[str]:
    """Return the names that the source of `module` imports or reaches as cnnbench.NAME."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                above = ".".join(module.split(".")[: -node.level]) if node.level else ""
                base = ".".join(filter(None, (above, node.module)))
                found.update(f"{base}.{alias.name}" for alias in node.names)
            case ast.Attribute(value=ast.Name(id="cnnbench")):
                found.add(f"cnnbench.{node.attr}")
    return found


def roots(source: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(source)}


def forbidden(source: str, module: str) -> list[str]:
    """Return the imports that break the layers."""
    part = module.split(".")[1] if "." in module else ""
    depth = next((depth for depth, layer in enumerate(LAYERS) if part in layer), len(LAYERS))
    allowed = {part}.union(*LAYERS[depth + 1 :])
    return sorted(
        name
        for name in imports(source, module)
        if name.startswith("cnnbench.") and name.split(".")[1] in PARTS - allowed
    )


def test_every_part_of_the_package_has_a_layer() -> None:
    present = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    assert present - {"__init__"} <= PARTS


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_imports_go_downwards(path: Path) -> None:
    assert forbidden(path.read_text(), module_of(path)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cnnbench.errors", "from cnnbench.config import Config"),
        ("cnnbench.config", "import cnnbench.models.lenet"),
        ("cnnbench.models.vgg", "from cnnbench import data"),
        ("cnnbench.analysis.timing", "from cnnbench.training.device import Device"),
        ("cnnbench.reference.swap", "import cnnbench.trackers"),
        (
            "cnnbench.data.splits",
            "def late() -> None:\n    from cnnbench.runs.directory import claim_new",
        ),
        ("cnnbench.training.loop", "from cnnbench.reports import curves"),
        ("cnnbench.training.loop", "from ..commands import train"),
        ("cnnbench.runs.directory", "import cnnbench\ncnnbench.cli.main()"),
        ("cnnbench.commands.train", "from cnnbench import cli as downwards"),
        ("cnnbench.cli", "from cnnbench import api"),
        ("cnnbench", "from cnnbench.errors import ConfigError"),
    ],
)
def test_upward_or_sideways_import_is_found(module: str, source: str) -> None:
    assert len(forbidden(source, module)) == 1


def test_downward_and_external_imports_are_allowed() -> None:
    source = (
        "import torch\nimport cnnbench\n"
        "from cnnbench.training import loop\nfrom cnnbench.errors import ConfigError"
    )
    assert forbidden(source, "cnnbench.training.engine") == []


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in SOURCES
        if path.parent.name == "models" and path.stem not in ("__init__", "arguments")
    ],
    ids=label,
)
def test_networks_import_only_torch_and_the_standard_library(path: Path) -> None:
    assert roots(path.read_text()) - sys.stdlib_module_names <= {"torch"}


@pytest.mark.parametrize(
    ("library", "importers"),
    [
        ("hydra", {"config/composed.py", "config/overrides.py"}),
        ("omegaconf", {"config/composed.py", "config/overrides.py"}),
    ],
)
def test_only_the_command_line_and_sweeps_import_hydra(library: str, importers: set[str]) -> None:
    """Allow config/ alone to read composed configurations and the grammar of overrides."""
    below = [path for path in SOURCES if label(path).split("/")[0] not in ("cli", "sweeps")]
    assert {label(path) for path in below if library in roots(path.read_text())} == importers


def private_uses(source: str) -> list[str]:
    """Return the uses of undocumented interfaces of Hydra in a source.

    These are imports of private names, assignments to imported names, and uses of singletons.
    """
    tree, names, found = ast.parse(source), set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = {
                alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            modules = {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        else:
            continue
        hydras = {
            name: module for name, module in modules.items() if module.split(".")[0] == "hydra"
        }
        names |= set(hydras)
        found += [module for module in hydras.values() if "._" in module or "Singleton" in module]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            changed: ast.expr = node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
            changed = node.args[0]
        else:
            continue
        while isinstance(changed, (ast.Attribute, ast.Call, ast.Subscript)):
            changed = changed.func if isinstance(changed, ast.Call) else changed.value
        if isinstance(changed, ast.Name) and changed.id in names:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "path", [*SOURCES, *sorted(PLUGINS.glob("*.py"))], ids=lambda path: path.stem
)
def test_only_documented_interfaces_of_hydra_are_used(path: Path) -> None:
    assert private_uses(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import hydra._internal.utils",
        "from hydra._internal.hydra import Hydra",
        "from hydra.core.singleton import Singleton",
        "from hydra.core.config_store import ConfigStore\nConfigStore.__deepcopy__ = None",
        "from hydra.core.global_hydra import GlobalHydra\nGlobalHydra.instance().hydra = None",
        "import hydra\nhydra.core.plugins.x = 1",
        "from hydra import compose\nsetattr(compose, 'x', 1)",
    ],
)
def test_private_use_of_hydra_is_found(source: str) -> None:
    assert len(private_uses(source)) == 1


@pytest.mark.parametrize(
    "module",
    ["cnnbench.cli", "cnnbench.config", "cnnbench.training.preflight", "cnnbench.data.catalog"],
)
def test_is_imported_without_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if "__all__" in path.read_text()], ids=label
)
def test_every_name_in_all_exists(path: Path) -> None:
    module = importlib.import_module(module_of(path))
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
