"""`FILE.py:function` and `package.module:function`: where the source is."""

import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from dpbench import plugins
from dpbench.errors import BadInput

_INSTALLED = tuple(Path(sysconfig.get_paths()[name]) for name in ("purelib", "platlib"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where a function is defined.

    Attributes:
        name: As it is shown and stored: without the folders of a file.
        root: The folder from which its modules are imported, absolute.
        path: Of the file that defines the function.
        module: To import, of a package; None of a file.
        function: Its name in the file.
    """

    name: str
    root: Path
    path: Path
    module: str | None
    function: str

    @property
    def installed(self) -> bool:
        """Whether it belongs to an installed distribution, and not to the user."""
        return self.module is not None and self.root in _INSTALLED


def is_reference(name: str) -> bool:
    """Whether the name is that of a function of the user's; other names are built in."""
    return ":" in name


def placed(value: Any, folder: Path) -> Any:
    """The name, or the names of a list, with files relative to the folder.

    Args:
        value: As it stands in a file of that folder; what is no reference stays as it is.
        folder: That relative paths start from.
    """
    if isinstance(value, list):
        return [placed(each, folder) for each in value]
    if not isinstance(value, str) or not is_reference(value):
        return value
    place, _, function = value.rpartition(":")
    return f"{folder / Path(place).expanduser()}:{function}" if place.endswith(".py") else value


def shown(text: str) -> str:
    """The name without the folders of a file."""
    place, colon, function = text.rpartition(":")
    return (
        f"{Path(place).name}:{function}" if place.endswith(".py") else f"{place}{colon}{function}"
    )


def named(function: str | Callable[..., Any]) -> str:
    """The name by which another process finds the function; a name stays as it is.

    Raises:
        BadInput: There is none: it is a lambda, is defined inside another function or a notebook,
            or its module holds another of its name.
    """
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", type(function).__name__)
    module = sys.modules.get(str(getattr(function, "__module__", None)))
    file = getattr(module, "__file__", None)
    if not name.isidentifier() or file is None or getattr(module, name, None) is not function:
        raise BadInput(
            f"Expected {name} to be defined at the top of a file, since workers import it by its "
            "name: write it into a file, such as mine.py, and give it, or 'mine.py:function' (in a "
            "notebook, %%writefile mine.py does it)."
        )
    assert module is not None
    if module.__package__ and module.__name__ != "__main__":
        return f"{module.__name__}:{name}"
    return f"{Path(file).absolute()}:{name}"


def locate(text: str, folder: Path | None = None) -> Located:
    """Where the function is.

    Args:
        text: `FILE.py:function` or `package.module:function`.
        folder: That a relative path starts from, and where packages are looked for first; None
            for the current one.

    Raises:
        BadInput: The text is no reference, or there is no such file or module.
    """
    place, _, function = text.rpartition(":")
    if not place or not function.isidentifier():
        raise BadInput(
            f"Expected {text!r} to be FILE.py:function or package.module:function, or a built-in "
            "name."
        )
    base = Path.cwd() if folder is None else folder
    if place.endswith(".py") or "/" in place or "\\" in place:
        path = (base / Path(place).expanduser()).absolute()
        if not path.is_file():
            raise BadInput(f"No file {place} for {text}: {_nearest_file(path)}")
        return Located(
            name=f"{path.name}:{function}",
            root=path.parent,
            path=path,
            module=None,
            function=function,
        )
    root, path = _module(place, base, text)
    return Located(name=text, root=root, path=path, module=place, function=function)


def _nearest_file(path: Path) -> str:
    there = sorted(each.name for each in path.parent.glob("*.py"))
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}."
    return plugins.nearest(path.name, there) if there else f"{path.parent} holds no .py file."


def _module(name: str, base: Path, text: str) -> tuple[Path, Path]:
    """The folder that the module's top package is in, and the module's file; imports nothing."""
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, [str(base), *sys.path])
    if spec is None:
        file = f"; of a file, name {top}.py:{text.rpartition(':')[2]}" if not rest else ""
        raise BadInput(f"No module {name} for {text}: no package {top} can be imported{file}.")
    if spec.submodule_search_locations is None:
        path = Path(str(spec.origin))
        if rest or path.suffix != ".py":
            raise BadInput(f"No module {name} for {text}: {top} is no package of Python files.")
        return path.parent, path
    folder = Path(next(iter(spec.submodule_search_locations)))
    root = folder.parent
    for part in rest[:-1]:
        folder /= part
    last = folder / rest[-1] if rest else folder
    path = last / "__init__.py" if last.is_dir() else last.with_suffix(".py")
    if not path.is_file():
        known = [each.stem for each in folder.glob("[!_]*.py")] if folder.is_dir() else []
        remedy = plugins.nearest(last.name, sorted(known)) if known else "it holds no module."
        raise BadInput(f"No module {name} for {text}: {remedy}")
    return root, path
