"""All mutants."""

from __future__ import annotations

from mutants import configuring, finding, planning, recording, reporting, running, watching, writing

MUTANTS = (
    *planning.MUTANTS,
    *running.MUTANTS,
    *recording.MUTANTS,
    *configuring.MUTANTS,
    *writing.MUTANTS,
    *reporting.MUTANTS,
    *watching.MUTANTS,
    *finding.MUTANTS,
)
