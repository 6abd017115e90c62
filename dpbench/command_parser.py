"""The parser of a command: short names, one-line errors, help of a screen, shell completion."""

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from dpbench import __version__, console, flag_names

EXIT_USAGE = 2
_COMMON_COLUMN = 34  # where the explanation of a common flag begins
_NUMBERS = re.compile(r"[-+.0-9][-+.0-9e,:%]*", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """A parser that understands the names of `flag_names`, and whose errors are one line.

    `--help` shows the common flags alone, `--help-all` every flag.

    Args:
        prog: As typed, with the command.
        description: What the command does; its first paragraph where there are details.
        exit_codes: And what each means.
        examples: Lines that can be typed, without `prog`.
        details: For `--help-all`.
        common: What `--help` shows: under each title, flags or positional arguments with a short
            text. Empty for all flags.
    """

    def __init__(
        self,
        prog: str,
        description: str | None,
        exit_codes: str,
        *,
        examples: Sequence[str] = (),
        details: str = "",
        common: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            add_help=False,
            formatter_class=_Formatter,
        )
        self._examples, self._details, self._common = examples, details, common
        self._exit_codes, self._source = exit_codes, ""
        self.add_argument("-h", "--help", action="help", help="show this help")
        self.add_argument("--help-all", action=_HelpAll, help="show every flag")
        self.add_argument(
            "--version", action="version", help="show the version", version=f"dpbench {__version__}"
        )

    # What is typed

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse's, after aliases and `_` are replaced."""
        given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._understood(given), namespace)

    @property
    def _flags(self) -> list[str]:
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def _understood(self, given: Sequence[str]) -> list[str]:
        """The arguments by this command's own names, a sweep file first.

        Exits where a flag that takes one value is given several.
        """
        found: list[str] = []
        files: list[str] = []
        action: argparse.Action | None = None
        for token in given:
            if token.startswith("--"):
                name, equals, value = token.partition("=")
                name = self._known(name)
                action = self._option_string_actions.get(name)
                found.append(f"{name}{equals}{value}")
                values = [value] if equals else []
                continue
            if action is not None:
                if action.nargs == "+" and token.endswith(".toml") and self._takes_file:
                    files.append(token)  # a flag of many values would take it for one of them
                    continue
                values.append(token)
                if action.nargs is None and len(values) > 1 and self._is_value(token):
                    name = action.option_strings[0]
                    self.error(f"{name} takes one value, not {' '.join(values)}")
            found.append(token)
        return [*files, *found]

    def _known(self, name: str) -> str:
        """The command's own name of a flag; an unknown one as it is."""
        if name in self._option_string_actions:
            return name
        dashed = name.replace("_", "-")
        if dashed in self._option_string_actions:
            return dashed
        return flag_names.flag_of_alias(dashed, self._option_string_actions) or name

    @property
    def _takes_file(self) -> bool:
        return any(str(each.metavar).endswith(".toml") for each in self._actions)

    def _is_value(self, token: str) -> bool:
        """Whether the word is one more value of a flag, and no file or folder of the command."""
        if token.endswith(".toml") or os.path.lexists(token):
            return False
        return _NUMBERS.fullmatch(token) is not None or (
            self._takes_file and not re.search(r"[./\\]", token)
        )

    # Settings of a file

    @property
    def keys(self) -> dict[str, str]:
        """The keys of a file of settings, and the flag that each stands for."""
        flags = [each for each in self._flags if not each.startswith(("--help", "--version"))]
        aliases = {
            alias: flag
            for flag, several in flag_names.ALIASES.items()
            for alias in several
            if flag in flags
        }
        named = aliases | {flag: flag for flag in flags}
        return {flag_names.key(name): flag for name, flag in named.items()}

    def with_settings(
        self, settings: Mapping[str, Any], typed: Sequence[str], source: Path | str
    ) -> argparse.Namespace:
        """What is typed, with the settings of a file where nothing is; typed flags win.

        Exits with one line where a setting is not valid.

        Args:
            settings: By keys of `keys`.
            typed: The arguments.
            source: The file, for messages.
        """
        self._source = f"{source}: "
        tokens = [token for key, value in settings.items() for token in self._tokens(key, value)]
        self.parse_args(tokens)
        self._source = ""
        return self.parse_args([*tokens, *typed])

    def _tokens(self, key: str, value: Any) -> Iterator[str]:
        """The setting as it would be typed."""
        flag = self.keys[key]
        action = self._option_string_actions[flag]
        if action.nargs == 0:
            if not isinstance(value, bool):
                self.error(f"Expected {key}={value!r} to be true or false.")
            if value:
                yield flag
            elif isinstance(action, argparse.BooleanOptionalAction):
                yield f"--no-{flag.removeprefix('--')}"
            return
        if action.nargs == "?" and isinstance(value, bool):
            if value:
                yield flag
            return
        several = value if isinstance(value, list) else [value]
        if any(isinstance(each, bool | dict) for each in several):
            self.error(f"Expected {key}={value!r} to be what {flag} takes.")
        if action.nargs == "+":
            yield from (flag, *map(str, several))
        elif len(several) == 1:
            yield f"{flag}={several[0]}"
        else:
            self.error(f"{key} takes one value, not {' '.join(map(str, several))}")

    # What is shown

    def error(self, message: str) -> NoReturn:
        """Exits with the one line."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            name, *_ = unknown.split("=")[0].split()
            hint = flag_names.meant(name, self._flags) if name.startswith("--") else None
            noun = "flag" if name.startswith("-") else "argument"
            message = f"Unknown {noun} {name} ({hint or 'see --help'})"
        elif not message.endswith((".", ")")):
            message += " (see --help)"
        self.exit(EXIT_USAGE, f"{self.prog}: {self._source}{message}\n")

    def format_usage(self) -> str:
        """The one line."""
        names = [
            f"[{_metavar(each)}]" if each.nargs == "?" else _metavar(each)
            for each in self._actions
            if not each.option_strings
        ]
        return " ".join([f"usage: {self.prog}", *names, "[flags]"]) + "\n"

    def format_help(self) -> str:
        """The common flags; all where the command names none as common."""
        return self._common_help() if self._common else self._full_help(details="")

    def format_help_all(self) -> str:
        """Every flag, the details and the exit codes."""
        return self._full_help(details=self._details)

    def _common_help(self) -> str:
        """The common flags, a line for each."""
        lines = [self.format_usage() + str(self.description)]
        for title, flags in self._common.items():
            lines += ["", title] if len(lines) == 1 else [title]
            for flag, short in flags.items():
                known = self._option_string_actions.get(flag)
                shown = f"  {flag if known is None else _invocation(known, aliases=1)}"
                default = "" if known is None else str(known.default)
                text = short.replace("%(default)s", default)
                lines.append(f"{shown:<{_COMMON_COLUMN}} {text}")
        lines += [*self._example_lines(), self._pointer()]
        return "\n".join(lines) + "\n"

    def _full_help(self, *, details: str) -> str:
        formatter = self._get_formatter()
        formatter.add_text(self.description)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        formatter.add_text("\n".join(self._example_lines()))
        formatter.add_text("\n\n".join(map(_filled, details.split("\n\n"))))
        formatter.add_text(textwrap.fill(f"exit codes: {self._exit_codes}", console.LINE))
        if self._details and not details:
            formatter.add_text(self._pointer())
        return f"{self.format_usage()}\n{formatter.format_help()}"

    def _example_lines(self) -> list[str]:
        lines = [f"  {self.prog} {example}" for example in self._examples]
        return ["examples:", *lines] if lines else []

    def _pointer(self) -> str:
        count = len({id(action) for action in self._option_string_actions.values()})
        return f"{self.prog} --help-all: {count} flags, exit codes, explanations"


class _HelpAll(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002  # argparse's name
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, Parser)
        sys.stdout.write(parser.format_help_all())
        parser.exit()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A flag with all its names and its values once, and with its default."""

    def __init__(self, prog: str, **known: Any) -> None:
        super().__init__(prog, **known | {"max_help_position": _COMMON_COLUMN})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return _invocation(action) if action.option_strings else _metavar(action)

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Lines that break no name, such as fused-non-private."""
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = re.sub(r"%(?!\()", "%%", action.help or "")  # argparse fills in %(default)s
        silent = action.default in (None, argparse.SUPPRESS, "") or action.nargs == 0
        if silent or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


def _filled(paragraph: str) -> str:
    """A paragraph, or one with items that begin with a dash, in lines of a terminal."""
    lines = paragraph.splitlines()
    if max(map(len, lines), default=0) <= console.LINE:
        return paragraph
    items: list[list[str]] = []
    for line in lines:
        after_item = items and items[-1][0].startswith("- ") and not line.startswith(" ")
        if not items or after_item or line.startswith("- "):
            items.append([])
        items[-1].append(line)
    return "\n".join(
        textwrap.fill(
            " ".join(" ".join(item).split()),
            console.LINE,
            subsequent_indent="  " if item[0].startswith("- ") else "",
        )
        for item in items
    )


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "NAME"
    return str(action.metavar or action.dest.upper())


def _invocation(action: argparse.Action, aliases: int | None = None) -> str:
    """A flag's names, and what it takes.

    Args:
        action: The flag.
        aliases: Names beside the first one; None for all.
    """
    known = [
        name
        for flag in action.option_strings
        for name in (flag, *flag_names.ALIASES.get(flag, ()))
        if aliases is None or name == action.option_strings[0] or name not in action.option_strings
    ]
    names = ", ".join(known if aliases is None else known[: 1 + aliases])
    if action.nargs == 0:
        return names
    name = _metavar(action)
    taken = {"+": f"{name} ...", "?": f"[{name}]"}.get(str(action.nargs), name)
    return f"{names} {taken}"
