"""`python -m sandbox_agent`: the same as the command `sandbox-agent`."""

from sandbox_agent.cli import command

if __name__ == "__main__":
    command()
