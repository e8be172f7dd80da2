"""The reports that a run leaves behind for a CI system: files where a flag or the task names them,
and under GitHub Actions the step's summary, a group and errors in the log.

They are written when the record is written, before anything that may take its time. A report that
cannot be written changes no exit code; what is missing is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sandbox_agent.cli.console import is_on
from sandbox_agent.cli.reporting.report_file import ReportFile
from sandbox_agent.cli.reporting.step_summary import VARIABLE, StepSummary
from sandbox_agent.errors import ConfigError

if TYPE_CHECKING:
    from sandbox_agent.cli.console import Console
    from sandbox_agent.journal.events import AnyEvent
    from sandbox_agent.reports.mask import Mask
    from sandbox_agent.reports.report import Report


class Reports:
    """The reports of one run. Without files and outside of GitHub Actions it does nothing.

    paths: of the files, by kind. folder: of a run that is resumed; its journal has the events so
    far. writable: folders that tools can write. run_dir: of the run, if the user has named it.
    quiet: no progress is shown, so it needs no group. Raises ConfigError if a file cannot be
    written, JournalError and OSError as `read_report`.
    """

    def __init__(
        self,
        paths: Mapping[str, str],
        console: Console,
        folder: Path | None = None,
        *,
        writable: Sequence[Path],
        run_dir: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self._quiet = quiet
        self._console = console
        self._on_github = is_github()
        self._files: dict[str, ReportFile] = {}
        to_step = self._on_github and bool(os.environ.get(VARIABLE))
        self._step: StepSummary | None = None
        self._no_step = ""
        self._report: Report | None = None
        self._folder = folder or Path()
        self._group_is_open = False
        refuse_one_file(paths)
        try:
            for kind, path in paths.items():
                if is_step_summary(kind, path):
                    to_step = True
                else:
                    private = run_dir is not None and Path(path).absolute().parent == run_dir
                    self._files[kind] = ReportFile(
                        f"--{kind}", path, private=private, writable=writable
                    )
            if to_step:
                self._open_step(writable)
            if self._files or to_step or self._on_github:
                self._report = _begun(folder)
        except BaseException:
            self.close()
            raise

    def _open_step(self, writable: Sequence[Path]) -> None:
        """GitHub's file is no reason to refuse a run."""
        try:
            self._step = StepSummary(writable)
        except (OSError, ValueError) as error:
            self._no_step = getattr(error, "strerror", "") or str(error)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, as absolute paths."""
        return tuple(Path(file.path).absolute() for file in self._files.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hear(self, event: AnyEvent) -> None:
        """Take the next event of the journal."""
        if self._report is None:
            return
        self._report.apply(event)
        if self._on_github and not self._quiet and not self._group_is_open:
            from sandbox_agent.reports.ci.github import group

            self._group_is_open = True
            self._console.command(group(self._report, _no_mask()))

    def write(self, folder: Path) -> None:
        """Write all reports, if there has been a run. folder: of the run. Never raises OSError."""
        report = self._report
        if report is None:
            return
        if self._group_is_open:
            self._console.command("::endgroup::\n")
        if report.last is None:
            return
        from sandbox_agent.reports.mask import mask_for

        report.folder = self._folder = folder
        mask = mask_for(report, os.environ)
        for kind, file in self._files.items():
            self._attempt(file.label, partial(_write, file, kind, report, mask))
        if self._step is not None:
            append = partial(_append_summary, self._step, report, mask)
            self._attempt(f"${VARIABLE}", append)
        elif self._no_step:
            self._missing(f"${VARIABLE}", self._no_step)
        if self._on_github:
            self._attempt("the log", partial(self._log_errors, report, mask))

    def _log_errors(self, report: Report, mask: Mask) -> None:
        from sandbox_agent.reports.ci.github import errors

        for line in errors(report, mask, repository()):
            self._console.command(line)

    def _attempt(self, label: str, write: Callable[[], object]) -> None:
        """A report is never a reason to lose the exit code of the run."""
        try:
            write()
        except OSError as error:
            self._missing(label, error.strerror or str(error))
        except Exception as error:
            self._missing(label, f"a bug: {error!r}")

    def _missing(self, label: str, why: str) -> None:
        path = next((file.path for file in self._files.values() if file.label == label), "")
        what = (
            f"{label}: {path} was not written: {why}" if path else f"{label} was not written: {why}"
        )
        self._console.error(f"{what}\n  hint: `sandbox-agent report {self._folder}` writes it")

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        if self._step is not None:
            self._step.close()


def _write(file: ReportFile, kind: str, report: Report, mask: Mask) -> None:
    file.write(made(kind, report, mask))


def _append_summary(step: StepSummary, report: Report, mask: Mask) -> None:
    step.append(made("summary", report, mask))


def refuse_one_file(paths: Mapping[str, str]) -> None:
    """Raises ConfigError if two reports would get one name."""
    seen: dict[str, str] = {}
    for kind, path in paths.items():
        other = seen.setdefault(os.path.realpath(path), kind)
        if other != kind:
            raise ConfigError(
                f"--{other} and --{kind} both name {path}",
                file="command line",
                hint="give each report a file of its own",
            )


def is_step_summary(kind: str, path: str) -> bool:
    """Whether a file is GitHub's for the summary of a step: it is appended to, never replaced."""
    step = os.environ.get(VARIABLE, "")
    return kind == "summary" and bool(step) and os.path.realpath(path) == os.path.realpath(step)


def made(kind: str, report: Report, mask: Mask) -> bytes:
    """The content of a report file. kind: of KINDS."""
    if kind == "junit":
        from sandbox_agent.reports.ci.junit import junit

        return junit(report, mask)
    if kind == "summary":
        from sandbox_agent.reports.ci.summary import summary

        return summary(report, mask).encode("utf-8", "backslashreplace")
    from sandbox_agent.reports.ci import gitlab

    if kind == "codequality":
        return gitlab.code_quality(report, mask, repository())
    return gitlab.dotenv(report, mask)


def repository() -> Path:
    """The folder that a CI system's paths start at; the current one elsewhere."""
    for name in (os.environ.get("GITHUB_WORKSPACE"), os.environ.get("CI_PROJECT_DIR")):
        if name and os.path.isabs(name):
            return Path(name)
    return Path.cwd()


def is_github() -> bool:
    """Whether this is a job of GitHub Actions."""
    return is_on("GITHUB_ACTIONS")


def _begun(folder: Path | None) -> Report:
    from sandbox_agent.reports.report import Report, read_report

    return Report("", Path()) if folder is None else read_report(folder)


def _no_mask() -> Mask:
    from sandbox_agent.reports.mask import Mask

    return Mask()
