"""What ends a measurement."""

from __future__ import annotations


class CannotMeasure(Exception):
    """A program did not do what is measured. The text says which one, and what it said."""


class BadInput(Exception):
    """The command line asks for something that is not there. The bench ends with 2."""
