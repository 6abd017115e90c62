"""Plug-ins: files of a package that export one frozen spec as `SPEC`.

A plug-in's name is that of its file, with `-` for `_`. A package finds its plug-ins in its own
folder, so that a new one is one new file. Names are known without importing anything.
"""

import difflib
import importlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dpbench.errors import BadInput

_ALIKE = 0.65  # of two names that may be one with a slip, such as mpl and mlp
_EXPORTS_SPEC = re.compile(r"^SPEC\b", re.MULTILINE)


@cache
def names(package: str) -> tuple[str, ...]:
    """The names of the plug-ins of `dpbench.<package>`, in alphabetical order.

    Args:
        package: Such as `datasets` or `reporting.figures`.
    """
    folder = Path(__file__).parent.joinpath(*package.split("."))
    files = [*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]
    found = {
        path.parent.name if path.name == "__init__.py" else path.stem
        for path in files
        if _EXPORTS_SPEC.search(path.read_text(encoding="utf-8"))
    }
    return tuple(sorted(name.replace("_", "-") for name in found))


def spec(package: str, name: str) -> Any:
    """The spec that the plug-in of that name exports.

    Args:
        package: As of `names`.
        name: One of them.

    Raises:
        BadInput: There is no such plug-in.
    """
    if name not in names(package):
        noun = package.rpartition(".")[2].removesuffix("s")
        if name.endswith(".py"):
            raise BadInput(f"Expected a function of {name} as the {noun}: name it {name}:FUNCTION.")
        raise BadInput(f"Unknown {noun} {name!r}: {nearest(name, names(package))}")
    return importlib.import_module(f"dpbench.{package}.{name.replace('-', '_')}").SPEC


def nearest(word: str, known: Sequence[str]) -> str:
    """The remedy for a misspelt word: the one that is meant, or all that are known."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=_ALIKE)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}."


def known_name(word: str, known: Sequence[str]) -> str:
    """The known name that differs from the word by case, `-`, `_` and spaces alone; else the word.

    So `MNIST` is `mnist`, and `fashionmnist` is `fashion-mnist`.
    """
    return next((name for name in known if _letters(name) == _letters(word)), word)


def _letters(word: str) -> str:
    return re.sub(r"[-_ ]", "", word).lower()
