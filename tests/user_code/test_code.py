"""What identifies a user's function, and which changes of its sources count."""

from pathlib import Path

import pytest

from dpbench import user_code
from dpbench.errors import BadInput, UserCodeError

FILE = '''"""A model."""
from layers import block

SCALE = 2


def make(width: int = 4, *, depth=1):
    """Returns it."""
    return block(width) * SCALE
'''
HELPER = "import deeper.most\n\n\ndef block(width):\n    return width + deeper.most.ONE\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "layers.py").write_text(HELPER)
    (tmp_path / "unrelated.py").write_text("raise SystemExit\n")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "__init__.py").write_text("")
    (tmp_path / "deeper" / "most.py").write_text("ONE = 1\n")
    return tmp_path


def found(folder: Path) -> user_code.Code:
    return user_code.find("mine.py:make", folder)


def test_a_function_is_named_without_folders_and_knows_its_sources(folder: Path) -> None:
    code = user_code.find(f"{folder}/mine.py:make")
    assert code.name == "mine.py:make"
    assert code.parameters == ("width", "depth")
    assert [path for path, _ in code.sources] == [
        *("deeper/__init__.py", "deeper/most.py", "layers.py", "mine.py")
    ]
    assert user_code.call(code, width=5) == 12


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mine.py", '"""A model."""', '"""Another word."""\n# a comment'),
        ("mine.py", '    """Returns it."""\n', ""),
        ("mine.py", "block(width) * SCALE", "(block( width )\n        * SCALE)"),
        ("deeper/most.py", "ONE = 1", "ONE = 1  # really"),
        ("unrelated.py", "raise SystemExit", "pass"),
    ],
)
def test_comments_layout_and_other_files_do_not_count(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = found(folder).hash
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    assert found(folder).hash == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mine.py", "SCALE = 2", "SCALE = 3"),
        ("mine.py", "SCALE = 2", "SCALE = 2.0"),
        ("layers.py", "width +", "width -"),
        ("deeper/most.py", "1", "2"),
        ("deeper/__init__.py", "", "import os\n"),
    ],
)
def test_a_change_of_what_the_sources_say_counts(
    folder: Path, file: str, old: str, new: str
) -> None:
    before = found(folder)
    assert user_code.call(before, width=5) == 12
    (folder / file).write_text((folder / file).read_text().replace(old, new) or new)
    after = found(folder)
    assert after.hash != before.hash
    user_code.call(after, width=5)  # runs the new sources, in the same process


def test_a_version_stands_for_the_sources(folder: Path) -> None:
    path = folder / "mine.py"
    path.write_text(FILE + "DPBENCH_VERSION = 3\n")
    before = found(folder).hash
    path.write_text(FILE.replace("SCALE = 2", "SCALE = 5") + "DPBENCH_VERSION = 3\n")
    assert found(folder).hash == before == "version 3"
    path.write_text(FILE + "DPBENCH_VERSION = make\n")
    with pytest.raises(BadInput, match="DPBENCH_VERSION to be a number or a text"):
        found(folder)


def test_the_recipe_is_frozen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def make(n=1):\n    return f'{n!r}' + 'b'\n")
    assert user_code.find("a.py:make", tmp_path).hash == "9ef20e2be910dc9e"


def test_relative_imports_and_packages(folder: Path) -> None:
    package = folder / "own"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text(
        "from . import parts\nfrom .parts import two\n\n\ndef make():\n"
        "    from .late import three\n    return two + three + parts.two\n"
    )
    (package / "parts.py").write_text("two = 2\n")
    (package / "late.py").write_text("three = 3\n")
    for name in ("own.net:make", "own/net.py:make"):
        code = user_code.find(name, folder)
        assert user_code.call(code) == 7
        assert {path.rpartition("/")[2] for path, _ in code.sources} >= {"net.py", "late.py"}
    assert user_code.find("own.net:make", folder).name == "own.net:make"


def test_an_installed_module_is_known_by_its_version() -> None:
    code = user_code.find("filelock:FileLock")
    assert code.hash.startswith("filelock ")
    assert code.sources == ()


def test_the_process_is_as_before(folder: Path) -> None:
    import sys

    path, modules = list(sys.path), set(sys.modules)
    user_code.call(found(folder), width=1)
    assert sys.path == path
    assert {name for name in set(sys.modules) - modules if "dpbench_user" not in name} == set()


def test_sources_that_have_changed_are_refused(folder: Path) -> None:
    code = found(folder)
    (folder / "layers.py").write_text(HELPER.replace("+", "-"))
    with pytest.raises(BadInput, match=r"source of mine.py:make is not what it was"):
        user_code.call(code.without_sources())


def test_sources_travel_to_where_the_files_are_not(folder: Path, tmp_path: Path) -> None:
    code = found(folder)
    for path in ("mine.py", "layers.py"):
        (folder / path).unlink()
    assert user_code.call(code, width=5) == 12


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mne.py:make", r"No file mne.py for mne.py:make: did you mean mine.py\?"),
        ("no/where.py:make", "there is no folder"),
        ("mine.py:mak", r"No function mak in mine.py: did you mean make\?"),
        ("mine.py:", "to be FILE.py:function"),
        ("mine.py:a b", "to be FILE.py:function"),
        ("deeper.mos:make", r"No module deeper.mos .* did you mean most\?"),
        ("nowhere.at.all:make", "no package nowhere can be imported"),
        ("math:sqrt", "math"),
    ],
)
def test_what_is_not_there_is_refused(folder: Path, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        user_code.find(name, folder)


def test_what_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def make(:\n    pass\n")
    with pytest.raises(BadInput, match=r"mine.py is not Python \(.*line 1"):
        found(tmp_path)


def test_an_error_shows_the_users_lines_and_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import json\n\n\ndef make():\n    return json.loads('{')\n\n\nkept = make\n"
    )
    with pytest.raises(UserCodeError) as raised:
        user_code.call(found(tmp_path))
    lines = str(raised.value).splitlines()
    assert lines[:3] == [
        "mine.py:make raised an error:",
        '  File "mine.py", line 5, in make',
        "    return json.loads('{')",
    ]
    assert lines[-1].startswith("json.decoder.JSONDecodeError: ")
    assert "importing" not in str(raised.value)
    (tmp_path / "mine.py").write_text("import nowhere_at_all\n\ndef make(): ...\n")
    with pytest.raises(UserCodeError, match=r"line 1, in <module>[\s\S]*ModuleNotFoundError"):
        user_code.call(found(tmp_path))
