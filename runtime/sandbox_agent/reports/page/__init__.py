"""A run as one HTML file: no script, no server, nothing from the network."""

from sandbox_agent.reports.page.render import html_of

__all__ = ["html_of"]
