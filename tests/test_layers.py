"""Imports point downwards, from package to package. A new module or file touches no test."""

import ast
from pathlib import Path

import dpbench

PACKAGE = Path(dpbench.__file__).parent

# From the commands down to the nouns; a package imports only packages on lower lines.
LAYERS = (
    (
        "__main__",
        *("audit", "check", "compact", "compare", "epsilon", "report", "results", "sweep"),
        "timing",
    ),
    ("execution",),
    ("auditing", "reporting", "search"),
    ("measurement",),
    ("analysis", "training"),
    ("engines",),
    ("clipping", "losses", "models", "optimizers"),
    ("cli", "store"),
    ("command_parser",),
    ("datasets", "privacy", "processes"),
    ("user_code",),
    ("completion", "console", "flag_names", "strings"),
    ("observations", "trial"),
    ("number_lists", "plugins"),
    ("errors",),
)
LAYER_OF = {package: index for index, packages in enumerate(LAYERS) for package in packages}


def imports(source: str) -> set[str]:
    """The packages of dpbench that the source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "dpbench":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dpbench."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "dpbench" and len(name) > 1}
    return {name for name in found if name in LAYER_OF or not name.startswith("__")}


def sources() -> dict[Path, str]:
    """Of every module but the package's own, by its path below it."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {
        path.relative_to(PACKAGE): path.read_text(encoding="utf-8")
        for path in paths
        if path != PACKAGE / "__init__.py"
    }


def upward_imports(sources: dict[Path, str]) -> list[str]:
    package_of = {path: path.parts[0].removesuffix(".py") for path in sources}
    return [
        f"{path} imports {imported}"
        for path, source in sources.items()
        for imported in sorted(imports(source) - {package_of[path]})
        if LAYER_OF[imported] <= LAYER_OF[package_of[path]]
    ]


def test_every_package_has_a_layer() -> None:
    assert {path.parts[0].removesuffix(".py") for path in sources()} == set(LAYER_OF)


def test_imports_point_downwards() -> None:
    assert upward_imports(sources()) == []


def imported_tests(source: str) -> list[str]:
    """The test modules that a test module imports."""
    named = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            named += [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
    return [name for name in named if name.split(".")[-1].startswith("test_")]


def test_test_modules_do_not_import_each_other() -> None:
    """What they share stands in modules of its own, as `factories`."""
    for path in (PACKAGE.parent / "tests").rglob("test_*.py"):
        found = imported_tests(path.read_text(encoding="utf-8"))
        # gates of bench/ are what tests of bench/ test
        assert [
            name for name in found if not (PACKAGE.parent / "bench" / f"{name}.py").exists()
        ] == [], path
    assert imported_tests("from engines import test_specs\nimport test_api") == [
        "test_specs",
        "test_api",
    ]


def test_an_upward_import_is_found() -> None:
    planted = sources() | {Path("trial.py"): "from dpbench import store\n"}
    assert upward_imports(planted) == ["trial.py imports store"]
    path = Path("datasets/loading.py")
    planted = sources() | {path: "def load():\n    from dpbench.training.loop import train\n"}
    assert upward_imports(planted) == [f"{path} imports training"]
