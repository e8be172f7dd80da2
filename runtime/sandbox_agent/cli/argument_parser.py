"""The parser of arguments: argparse, but it neither prints nor exits, and drops nothing."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from sandbox_agent.exit_codes import ExitCode


class UsageError(Exception):
    """Parsing ended without a verb: help was asked for (code 0), or the usage is wrong."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Formatter(argparse.HelpFormatter):
    """Keeps the lines of a text that has several, such as the list of exit codes."""

    def __init__(self, prog: str) -> None:
        # argparse makes a formatter for each argument, and imports shutil for the width.
        super().__init__(prog, width=_width() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def _width() -> int:
    """Columns of the terminal, as shutil.get_terminal_size finds them."""
    with suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with suppress(AttributeError, OSError, ValueError):  # no standard output, or no terminal
        if (columns := os.get_terminal_size(sys.__stdout__.fileno()).columns) > 0:  # type: ignore[union-attr]
            return columns
    return 80


class Store(argparse.Action):
    """Stores a value. Refuses an empty one, which is a variable of a script that is not set, and
    the second value of an option, since the first one would have no effect."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        if values == "" and self.nargs != argparse.REMAINDER:
            raise argparse.ArgumentError(self, "is empty; give a value, or leave it out")
        if option is not None and getattr(namespace, self.dest, None) is not self.default:
            raise argparse.ArgumentError(self, "is given twice; remove one of them")
        setattr(namespace, self.dest, values)


class File(Store):
    """The file of -o. `-` means standard output elsewhere."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        if values == "-":
            raise argparse.ArgumentError(
                self, "standard output gets the message anyway; leave it out, or write ./-"
            )
        super().__call__(parser, namespace, values, option)


class Either(argparse.BooleanOptionalAction):
    """`--x` or `--no-x`, and not both."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None)
        super().__call__(parser, namespace, values, option)
        if before not in (None, getattr(namespace, self.dest)):
            raise argparse.ArgumentError(self, "are both given; remove one of them")


class Two(argparse.Action):
    """An option with two values, which may be given several times. `Parser.read` takes it before
    argparse does: a value may begin with a dash, and options of this kind keep their order among
    each other. `pairs` of the result has each of them with its values."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, nargs=2)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        raise argparse.ArgumentError(self, "its values are words of their own; remove the =")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that neither prints nor exits, and guesses what a mistyped word means."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=Formatter)
        # Python 3.14 colours help at a terminal, and under FORCE_COLOR everywhere. The console
        # would show the escapes as text.
        self.color = False
        self._printed = ""
        self.register("action", None, Store)
        self.register("action", "store", Store)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The values of `words`. Raises UsageError."""
        words, pairs = self._take_pairs(words)
        self._look_for_mistyped_options(words)
        values, extra = self.parse_known_args(words, argparse.Namespace(pairs=pairs))
        if extra:
            self.refuse(
                f"{extra[0]}: there is nothing that this word could be",
                "remove it, or put a text with spaces in quotes",
            )
        return values

    def knows(self, option: str) -> bool:
        """Whether this is the name of an option."""
        return option in self._option_string_actions

    def refuse(self, what: str, hint: str) -> NoReturn:
        """Raises UsageError: one message with what, where and the hint."""
        from sandbox_agent.reports.escape import one_line

        text = f"{self.prog}: {one_line(what)}\n  hint: {one_line(hint, 400)}\n"
        raise UsageError(ExitCode.USAGE, text)

    def error(self, message: str) -> NoReturn:
        hint = f"see {self.prog} --help"
        if message.endswith("expected one argument"):
            hint = f"write --option=VALUE where the value begins with a dash; {hint}"
        self.refuse(message, hint)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(status, self._printed + (message or ""))

    def _print_message(self, message: str, file: object = None) -> None:
        self._printed += message or ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuses a value that is none of the action's choices."""
        if action.choices is None or value in action.choices:
            return
        from sandbox_agent_sandbox.nearest import did_you_mean

        known = [str(choice) for choice in action.choices]
        name = "/".join(action.option_strings) or action.metavar or action.dest
        hint = did_you_mean(str(value), known) or f"write one of {', '.join(known)}"
        self.refuse(f"{name}: there is no {str(value)!r}", hint)

    def _take_pairs(self, words: Sequence[str]) -> tuple[list[str], list[tuple[str, str, str]]]:
        """Words without the options that have two values, and these. See `Two`."""
        rest: list[str] = []
        pairs: list[tuple[str, str, str]] = []
        left, is_value = list(words), False
        while left and (is_value or looks_like_option(left[0])) and left[0] != "--":
            word = left.pop(0)
            action = None if is_value else self._option_string_actions.get(word)
            is_value = action is not None and action.nargs != 0
            if not isinstance(action, Two):
                rest.append(word)
                continue
            is_value = False
            if len(left) < 2 or "--" in left[:2]:
                shown = " ".join(action.metavar or ())
                self.refuse(f"{word}: two values are needed", f"write {word} {shown}")
            pairs.append((word, left.pop(0), left.pop(0)))
        return rest + left, pairs

    def _look_for_mistyped_options(self, words: Sequence[str]) -> None:
        """Refuses the first option that is not known, before anything that follows from it, such as
        a missing argument. It also finds `-out`, which argparse reads as `-o ut`."""
        is_value, command = False, self._takes_a_command()
        for word in words:
            if is_value:
                is_value = False
            elif word == "--":
                return
            elif not looks_like_option(word):
                if command:
                    return
            else:
                name, equals = re.split(r"[\s=]", word, maxsplit=1)[0], "=" in word
                action = self._option_string_actions.get(name)
                if action is None and (not self.knows(word[:2]) or self.knows(f"-{name}")):
                    self._refuse_option(name)
                is_value = action is not None and action.nargs != 0 and not equals

    def _takes_a_command(self) -> bool:
        """Whether the first word that is no option begins the words of another program."""
        return any(action.nargs == argparse.REMAINDER for action in self._actions)

    def _refuse_option(self, name: str) -> NoReturn:
        from sandbox_agent_sandbox.nearest import did_you_mean

        known = did_you_mean(name, self._option_string_actions)
        self.refuse(f"{name}: there is no such option", known or f"see {self.prog} --help")


def looks_like_option(word: str) -> bool:
    """Whether a word is meant as an option: `--prompt=Fix it.` is, also where its name is mistyped,
    and `- a list` is not. argparse takes every unknown word with a space for an argument."""
    name = re.split(r"[\s=]", word, maxsplit=1)[0]
    return len(name) > 1 and name[0] == "-"


class Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # here, because its import is slow

        raise UsageError(0, f"sandbox-agent {version('sandbox-agent-runtime')}\n")
