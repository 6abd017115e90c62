"""Imports point downwards, through the rooms of the house as they are listed here."""

import ast
from pathlib import Path

import dpbench

PACKAGE = Path(dpbench.__file__).parent
README = PACKAGE.parent / "README.md"

# From the commands down to the nouns; a module may import only what stands on a lower line.
FLOORS = (
    ("__main__", "audit", "compare", "epsilon", "sweep", "timing"),
    ("cluster",),
    ("cluster.placing",),
    ("cluster.scheduler", "cluster.station", "dry_run"),
    ("cluster.errors", "execution", "report"),
    ("runner",),
    ("processes.passes", "processes.schedule"),
    ("processes.crew",),
    ("page", "store.folding", "store.sharing"),
    ("page.render",),
    ("page.contents",),
    ("findings", "gallery", "page.references", "page.tables"),
    ("candour", "figures", "progress", "store.history", "wording"),
    ("command", "store", "summary"),
    (
        "figures.cells",
        "figures.comparison",
        "figures.curves",
        "figures.loss",
        "figures.overhead",
        "figures.privacy",
    ),
    ("figures.parts",),
    ("comparison.documents",),
    ("comparison.coverage",),
    ("choice", "comparison.changes", "comparison.differences", "price"),
    ("store.files", "store.locks", "store.outcomes", "store.schema"),
    ("analysis",),
    ("memory",),
    ("stopwatch",),
    ("audits.audited_run", "train", "tutorial"),
    ("engines",),
    (
        "engines.bookkeeping",
        "engines.fused",
        "engines.graphed",
        "engines.non_private",
        "engines.opacus_ghost",
        "engines.opacus_grad_sample",
        "engines.stacked",
    ),
    ("engines.descent", "engines.fused_kernel", "engines.passes", "engines.protocol"),
    ("engines.simd",),
    ("audits.canaries", "data", "models", "sampling"),
    ("audits.claim", "audits.one_run", "environment", "estimate", "grid"),
    ("calibration", "prv"),
    (
        "accounting",
        "audits.residuals",
        "audits.trade_off",
        "catalogue",
        "processes.worker",
        "question",
        "stacks",
    ),
    ("audits", "comparison", "guarantee", "heap", "interrupt", "processes"),
    ("trial",),
)
MODULES = {module for modules in FLOORS for module in modules}


def imports(source: str) -> set[str]:
    """The modules of dpbench that a module's source imports, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "dpbench":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dpbench."):
            module = str(node.module).removeprefix("dpbench.")
            submodules = {f"{module}.{alias.name}" for alias in node.names} & MODULES
            found |= submodules or {module}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("dpbench.")
                for alias in node.names
                if alias.name.startswith("dpbench.")
            }
    return found - {"__version__"}


def upward_imports(sources: dict[str, str]) -> list[str]:
    floor = {module: index for index, modules in enumerate(FLOORS) for module in modules}
    return [
        f"{module} imports {imported}"
        for module, source in sources.items()
        for imported in sorted(imports(source))
        if floor[imported] <= floor[module]
    ]


def sources() -> dict[str, str]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        if module != "__init__":
            found[module] = path.read_text(encoding="utf-8")
    return found


def test_every_module_has_a_floor() -> None:
    assert set(sources()) == MODULES


def test_imports_point_downwards() -> None:
    assert upward_imports(sources()) == []


def test_an_upward_import_is_found() -> None:
    planted = sources() | {"trial": "from dpbench import store\n"}
    assert upward_imports(planted) == ["trial imports store"]
    planted = sources() | {"data": "def load():\n    from dpbench.train import train\n"}
    assert upward_imports(planted) == ["data imports train"]


def test_readmes_map_is_the_house() -> None:
    """Every module or package is on a line, and imports none on a line above."""
    block = README.read_text(encoding="utf-8").partition("```\ndpbench/\n")[2].partition("```")[0]
    lines = [line.strip().partition("   ")[0].split() for line in block.splitlines()]
    line_of = {name: index for index, names in enumerate(lines) for name in names}
    tops = {module.partition(".")[0] for module in MODULES}
    assert set(line_of) == tops
    assert len(line_of) == sum(map(len, lines))
    upward = [
        f"{module} imports {imported}"
        for module, source in sources().items()
        for imported in sorted(imports(source))
        if line_of[imported.partition(".")[0]] < line_of[module.partition(".")[0]]
    ]
    assert upward == []
