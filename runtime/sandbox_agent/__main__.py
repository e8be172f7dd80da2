"""`python -m sandbox_agent`: the same as the command `sandbox-agent`."""

from sandbox_agent.command import command

if __name__ == "__main__":
    command()
