"""Imports and calls the user's functions, and shows the user's lines where they raise."""

import importlib
import importlib.machinery
import importlib.util
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from dpbench.errors import BadInput, UserCodeError
from dpbench.user_code import code as codes
from dpbench.user_code.code import Code

_OWN = Path(__file__).parents[1]

_written: list[tempfile.TemporaryDirectory[str]] = []  # removed when this process ends
_importing: list[str] = []  # files that are being run
_own_modules: dict[str, dict[str, ModuleType]] = {}  # by `Code.key`: what it imported beside it


def call(code: Code, *given: Any, **named: Any) -> Any:
    """What the function returns.

    Raises:
        UserCodeError: It raises an error, or its file does; the message shows the user's lines.
        BadInput: The sources are not those of the code's hash.
    """
    return calling(code, function(code), *given, **named)


def calling(code: Code, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """As `call`, of a function that came from the code, such as `Data.prepare`."""
    with _importable(_placed(code)):
        try:
            return function(*given, **named)
        except BadInput:
            raise
        except Exception as error:
            raise UserCodeError(raised(code, error)) from error


def function(code: Code) -> Callable[..., Any]:
    """The function.

    Raises:
        UserCodeError: Its file raises an error.
        BadInput: The sources are not those of the code's hash, or hold no such function.
    """
    placed = _placed(code)
    found = getattr(_module(placed), code.function, None)
    if not callable(found):
        raise BadInput(f"Expected {code.name} to be a function, not {found!r}.")
    loaded: Callable[..., Any] = found
    return loaded


def constant(code: Code, name: str) -> Any:
    """What the function's file calls `name` at its top level; None where it has none.

    Raises:
        UserCodeError: The file raises an error.
    """
    return getattr(_module(_placed(code)), name, None)


def raised(code: Code, error: BaseException) -> str:
    """The error with the frames of the user's files alone."""
    placed = _placed(code)
    shown = frames(code, error)
    last = "".join(traceback.format_exception_only(error)).rstrip()
    lines = "".join(traceback.format_list(shown)).replace(f'"{placed.root}/', '"')
    return f"{code.name} raised an error:\n{lines}{last}"


def frames(code: Code, error: BaseException) -> list[traceback.FrameSummary]:
    """Those of the error that are in the user's files."""
    root = _placed(code).root
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(root)
        and not Path(frame.filename).is_relative_to(_OWN)
    ]


@cache
def _placed(code: Code) -> Code:
    """The code with its files on this machine: those of its sources are written to a folder.

    Raises:
        BadInput: The files are not there, or not as they were when the code was found.
    """
    if code.sources and not _same(code):
        folder = tempfile.TemporaryDirectory(prefix="dpbench-sources-")
        _written.append(folder)
        root = Path(folder.name)
        for path, text in code.sources:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        code = replace(code, root=root)
    if not _same(code):
        raise BadInput(
            f"The source of {code.name} is not what it was when this sweep began: run it again."
        )
    return code


def _same(code: Code) -> bool:
    """Whether the files beneath the code's root are those that it was found with."""
    where = str(code.file) if code.module is None else code.module
    try:
        return codes.find(f"{where}:{code.function}", code.root).hash == code.hash
    except BadInput:
        return False


@cache
def _module(code: Code) -> ModuleType:
    """The module that defines the function, run once in this process."""
    _importing.append(code.file.name)
    with _importable(code):
        try:
            if code.module is not None:
                return importlib.import_module(code.module)
            return _run_file(code)
        except Exception as error:
            raise UserCodeError(raised(code, error)) from error
        finally:
            _importing.pop()


def _run_file(code: Code) -> ModuleType:
    """The file as a module of a package of its own, so that relative imports find their way."""
    package = ModuleType(f"dpbench_user_{code.key}")
    package.__path__ = [str(code.root)]
    sys.modules[package.__name__] = package
    name = f"{package.__name__}.{code.file.stem}"
    spec = importlib.util.spec_from_file_location(name, code.file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for it
    text = code.file.read_text(encoding="utf-8")
    # the text and never what is compiled on disk, which may be of an older text
    exec(compile(text, str(code.file), "exec"), vars(module))  # noqa: S102  # the user's own file
    return module


def refuse_nested(what: str) -> None:
    """Raises BadInput while a file of the user's is imported, which must not begin a sweep."""
    if _importing:
        raise BadInput(
            f"{what} is called while {_importing[-1]} is imported: put the call below if __name__ "
            '== "__main__":.'
        )


@contextmanager
def _importable(code: Code) -> Iterator[None]:
    """Imports beneath the code's root find its own modules; afterwards nothing has changed."""
    own = _own_modules.setdefault(code.key, {})
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    before = _taken(code.modules)
    sys.modules.update(own)
    sys.path.insert(0, str(code.root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(code.root))
        own.update(_taken(code.modules))
        sys.modules.update(before)
        sys.dont_write_bytecode = written


def _taken(tops: tuple[str, ...]) -> dict[str, ModuleType]:
    """These modules and what is below them, which `sys.modules` holds no longer."""
    names = [name for name in sys.modules if name.split(".")[0] in tops]
    return {name: sys.modules.pop(name) for name in names}
