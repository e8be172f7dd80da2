"""JUnit XML: a test suite with a case for the run and one for each command of `verify`.

There is no standard of JUnit's format. What is written here is valid for `junit.xsd` beside this
file (`sandbox-agent schema --junit` prints it), and uses only what Ant, Jenkins and GitLab all
know.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

from sandbox_agent.reports.ci.cases import (
    Case,
    Verdict,
    cases_of,
    shown_line,
    shown_tail,
    workspace_of,
)
from sandbox_agent.reports.ci.transcript import transcript
from sandbox_agent.reports.escape import escape_text
from sandbox_agent.reports.findings import finding_lines
from sandbox_agent.reports.walls import missing_in, plan_of, wall_lines

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from sandbox_agent.reports.mask import Mask
    from sandbox_agent.reports.report import Report

_NO_XML = re.compile("[\ufffe\uffff]")
"""What XML 1.0 does not allow (section 2.2) and `escape_text` leaves."""


def junit_schema() -> str:
    """The XML Schema of the file."""
    return files("sandbox_agent.reports.ci").joinpath("junit.xsd").read_text("utf-8")


def junit(report: Report, mask: Mask) -> bytes:
    """The file, UTF-8. Its size is bounded."""
    # Imported here, because most runs write no such file.
    from xml.etree import ElementTree

    cases = cases_of(report)
    count = [case.verdict for case in cases].count
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": _line(report.name or "sandbox-agent", mask),
            "id": "0",
            "package": "sandbox-agent",
            "hostname": "localhost",
            "timestamp": _timestamp(report),
            "tests": str(len(cases)),
            "failures": str(count(Verdict.FAILED)),
            "errors": str(count(Verdict.ERROR)),
            "skipped": str(count(Verdict.SKIPPED)),
            "time": f"{report.seconds():.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        if value:
            named = {"name": name, "value": _line(value, mask)}
            ElementTree.SubElement(properties, "property", named)
    for case in cases:
        _add(ElementTree.SubElement(suite, "testcase"), case, report, mask)
    ElementTree.SubElement(suite, "system-out").text = _xml(transcript(report, mask))
    ElementTree.SubElement(suite, "system-err").text = _xml(
        escape_text(mask.apply(_remarks(report)))
    )
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _add(element: Element, case: Case, report: Report, mask: Mask) -> None:
    from xml.etree.ElementTree import SubElement

    task = report.name or "sandbox-agent"
    element.set("classname", _line(task if case.call is None else f"{task}.verify", mask))
    element.set("name", _line(case.name, mask))
    element.set("time", f"{case.seconds:.3f}")
    if case.verdict is Verdict.PASSED:
        return
    kinds = {Verdict.FAILED: "failure", Verdict.ERROR: "error", Verdict.SKIPPED: "skipped"}
    found = SubElement(element, kinds[case.verdict])
    message = _line(case.message, mask)
    found.set("message", message)
    if case.is_bad:
        found.set("type", _kind(case, report))
        found.text = _xml("\n".join([message, *shown_tail(case, mask)]))


def _kind(case: Case, report: Report) -> str:
    if case.call is None:
        return report.status
    return "verify" if case.call.outcome is None else f"verify.{case.call.outcome.value}"


def _properties(report: Report) -> dict[str, str]:
    end, used = report.end, report.usage()
    return {
        "run": report.id,
        "status": report.status,
        "exit_code": "" if end is None else str(end.exit_code),
        "model": report.model,
        "segments": str(len(report.segments)),
        "turns": str(len(report.turns)),
        "calls": str(sum(not call.is_verify for call in report.calls.values())),
        "tokens": "" if used is None else str(used.total),
        "cost_usd": "" if used is None or used.cost_usd is None else f"{used.cost_usd:.6f}",
        "workspace": str(workspace_of(report) or ""),
        "plan": "" if report.last is None else plan_of(report.last.plan),
        "missing": "" if report.last is None else ", ".join(missing_in(report.last.plan)),
        "record": str(report.folder),
    }


def _remarks(report: Report) -> str:
    walls = [] if report.last is None else wall_lines(report.last.plan)
    if report.end is None:
        return "\n".join(walls)
    survivors = [f"could not stop pid {one.pid}: {one.command}" for one in report.end.survivors]
    return "\n".join([*walls, *survivors, *finding_lines(report.end.findings)])


def _timestamp(report: Report) -> str:
    """When the last segment began, UTC, without a zone, as Ant writes it."""
    at = report.last.at if report.last is not None else report.at
    found = re.match(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}", at)
    return found[0] if found else "1970-01-01T00:00:00"


def _line(text: str, mask: Mask) -> str:
    return _xml(shown_line(text, mask)) or "?"


def _xml(text: str) -> str:
    return _NO_XML.sub("?", text)
