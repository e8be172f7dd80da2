"""The parser of arguments: argparse, but it neither prints nor exits, and drops nothing."""

from __future__ import annotations

import argparse
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

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


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


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that neither prints nor exits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=Formatter)
        self._printed = ""
        self.register("action", None, Store)
        self.register("action", "store", Store)

    def _print_message(self, message: str, file: object = None) -> None:
        self._printed += message or ""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(status, self._printed + (message or ""))

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            ExitCode.USAGE,
            f"{self.format_usage()}{self.prog}: {message}\n  hint: see {self.prog} --help\n",
        )


class Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # here, because its import is slow

        raise UsageError(0, f"sandbox-agent {version('sandbox-agent-runtime')}\n")
