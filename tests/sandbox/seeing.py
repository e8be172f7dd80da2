"""Tools that return images: valid ones, too many, and false ones."""

from sandbox_agent_sandbox.inside.worker.tool_result import Image, ToolResult

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def shows(count: int = 1, size: int = 0) -> ToolResult:
    data = PNG + bytes(size)
    return ToolResult("look", images=tuple(Image("image/png", data) for _ in range(count)))


def lies() -> ToolResult:
    return ToolResult("look", images=(Image("image/png", b"<script>"), Image("text/html", PNG)))
