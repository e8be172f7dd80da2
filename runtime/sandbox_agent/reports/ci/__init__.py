"""Reports on a run for CI systems: JUnit, Markdown, GitLab, GitHub Actions."""
