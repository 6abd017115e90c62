"""A function of the user's: where it is, its sources, and the hash that identifies them."""

import ast
import hashlib
import importlib.metadata
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpbench import plugins
from dpbench.errors import BadInput
from dpbench.user_code import reference, source_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A function and what it says, as it travels to workers.

    Attributes:
        name: As it is shown and stored, such as `mine.py:make`.
        function: Its name in its file.
        module: To import, of a package; None of a file.
        root: The folder that its modules are imported from.
        path: Of its file, below the root.
        hash: Of the sources, or the file's DPBENCH_VERSION, or the version of the distribution
            that an installed module belongs to.
        modules: Names of the modules beneath the root that it imports, as far as their first dot.
        sources: The texts of its files by their paths below the root; empty where the receiver
            has the files.
        parameters: Names of the function's parameters; None where they are not known.
        required: Those of them that have no default.
        any_parameter: Whether it takes others, too (`**kwargs`).
    """

    name: str
    function: str
    module: str | None
    root: Path
    path: str
    hash: str
    modules: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    parameters: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    any_parameter: bool = False

    @property
    def file(self) -> Path:
        """The file that defines the function."""
        return self.root / self.path

    @property
    def key(self) -> str:
        """A name for modules of just these sources."""
        content = repr((self.root, self.path, self.hash, self.sources))
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def by_version(self) -> bool:
        """Whether its file's DPBENCH_VERSION stands for the hash of its sources."""
        return self.hash.startswith("version ")

    def without_sources(self) -> "Code":
        """For a receiver that has the files."""
        return replace(self, sources=())


def find(text: str, folder: Path | None = None) -> Code:
    """The function's code; nothing of it is run.

    Args:
        text: `FILE.py:function` or `package.module:function`.
        folder: That a relative path starts from; None for the current one.

    Raises:
        BadInput: There is no such file, module or function, or it is no Python.
    """
    located = reference.locate(text, folder)
    trees, texts = {}, {}
    todo = [located.path, *_packages(located)]
    while todo:
        path = todo.pop()
        below = path.relative_to(located.root).as_posix()
        if below not in trees:
            texts[below], trees[below] = source_text.parsed(path)
            if not located.installed:
                todo += source_text.local_imports(path, trees[below], located.root)
    own = located.path.relative_to(located.root).as_posix()
    signature = _signature(trees[own], located)
    identity = source_text.version(trees[own]) or (
        _distribution(located) if located.installed else source_text.hashed(trees)
    )
    return Code(
        name=located.name,
        function=located.function,
        module=located.module,
        root=located.root,
        path=own,
        hash=identity,
        modules=() if located.installed else tuple(sorted(_tops(trees, located))),
        sources=() if located.installed else tuple(sorted(texts.items())),
        **signature,
    )


def _packages(located: reference.Located) -> list[Path]:
    """The `__init__.py` that are run on the way to the module."""
    if located.module is None or located.installed:
        return []
    folders = located.path.relative_to(located.root).parents
    files = (located.root / folder / "__init__.py" for folder in folders if folder.name)
    return [path for path in files if path.is_file()]


def _tops(paths: Collection[str], located: reference.Located) -> set[str]:
    names = {path.split("/")[0].removesuffix(".py") for path in paths}
    return names if located.module else names - {located.path.stem, "__init__"}


def _distribution(located: reference.Located) -> str:
    top = str(located.module).split(".")[0]
    owners = importlib.metadata.packages_distributions().get(top, [top])
    return " ".join(f"{each} {importlib.metadata.version(each)}" for each in sorted(set(owners)))


def _signature(tree: ast.Module, located: reference.Located) -> dict[str, Any]:
    """`Code.parameters`, `required` and `any_parameter`; none where the text does not tell.

    Raises:
        BadInput: The file defines no such function.
    """
    known = source_text.definitions(tree)
    node = known.get(located.function)
    if node is None:
        stars = [each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
        if any(alias.name == "*" for each in stars for alias in each.names):
            return {}
        functions = [
            name
            for name, each in known.items()
            if isinstance(each, ast.FunctionDef | ast.ClassDef) and not name.startswith("_")
        ]
        remedy = plugins.nearest(located.function, functions) if functions else "it defines none."
        place = located.name.rpartition(":")[0]
        raise BadInput(f"No function {located.function} in {place}: {remedy}")
    if isinstance(node, ast.ClassDef):
        methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
        node = methods.get("__init__")
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return {}
    arguments = node.args
    placed = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    required = placed[: len(placed) - len(arguments.defaults)]
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required += [each.arg for each, default in named if default is None]
    names = [*placed, *(each.arg for each in arguments.kwonlyargs)]
    own = 1 if node.name == "__init__" else 0  # self
    return {
        "parameters": tuple(names[own:]),
        "required": tuple(required[own:]),
        "any_parameter": arguments.kwarg is not None,
    }
