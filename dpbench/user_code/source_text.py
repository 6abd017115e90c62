"""Parsed sources: what they define and import, and a hash of what they say."""

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from dpbench.errors import BadInput

RECIPE = "1"  # of the hash: a change of it runs every trial of users' models again
_VERSION = "DPBENCH_VERSION"
_NEVER_LOCAL = sys.stdlib_module_names | {"dpbench"}  # even where the folder has such a file


def parsed(path: Path) -> tuple[str, ast.Module]:
    """The file's text and its tree.

    Raises:
        BadInput: It cannot be read, or is no Python.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return text, ast.parse(text, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read {path}: {error}.") from error
    except (SyntaxError, ValueError) as error:
        line, what = getattr(error, "lineno", None), getattr(error, "msg", error)
        at = f", line {line}: {str(error.text).strip()!r}" if isinstance(error, SyntaxError) else ""
        raise BadInput(f"{path.name} is not Python ({what}{at}).") from error


def hashed(sources: dict[str, ast.Module]) -> str:
    """Sixteen hex digits of what the files say; comments, layout and docstrings do not count.

    Args:
        sources: By path below their folder.
    """
    digest = hashlib.sha256(RECIPE.encode())
    for path in sorted(sources):
        digest.update(f"\n{path}\n".encode())
        for part in _written(sources[path]):
            digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _written(node: object) -> Iterator[str]:
    """The tree as text: the same from every version of Python, which `ast.dump` is not."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(value, list) and _documented(node):
                value = value[1:]
            if value is None or value == [] or name in ("ctx", "kind", "type_comment"):
                continue
            yield f" {name}="
            yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for each in node:
            yield from _written(each)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r}"


def _documented(node: ast.AST) -> bool:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None


def version(tree: ast.Module) -> str | None:
    """The value of the file's DPBENCH_VERSION, which stands for the hash of its sources.

    Raises:
        BadInput: It is no constant.
    """
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if not any(isinstance(each, ast.Name) and each.id == _VERSION for each in targets):
            continue
        value = getattr(node, "value", None)
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str | int | float):
            raise BadInput(f"Expected {_VERSION} to be a number or a text in quotes.")
        return f"version {value.value}"
    return None


def definitions(tree: ast.Module) -> dict[str, ast.AST]:
    """What the module defines or imports at its top, `if` and `try` included."""
    found: dict[str, ast.AST] = {}
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        node = todo.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(each.asname or each.name.split(".")[0]): node for each in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {each.id: node for each in targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.If | ast.Try | ast.With):
            todo += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]
    return found


def local_imports(path: Path, tree: ast.Module, root: Path) -> set[Path]:
    """The files beneath the root that the module imports, and the `__init__.py` on the way.

    Args:
        path: Of the module.
        tree: Of its text.
        root: Where absolute imports start.
    """
    found: set[Path] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                found |= _files(root, each.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else root
            parts = node.module.split(".") if node.module else []
            for each in node.names:
                found |= _files(base, [*parts, each.name], relative=node.level > 0)
    return {each for each in found if each.is_relative_to(root)}


def _files(base: Path, parts: list[str], *, relative: bool = False) -> set[Path]:
    """The files of the package and its modules on the way to the last part, as far as they go."""
    if not relative and parts[0] in _NEVER_LOCAL:
        return set()
    found = {base / "__init__.py"} if relative else set()
    for part in parts:
        module, package = base / f"{part}.py", base / part
        if (package / "__init__.py").is_file():
            found.add(package / "__init__.py")
        elif module.is_file():
            found.add(module)
        if not package.is_dir():
            break
        base = package
    return {each for each in found if each.is_file()}
