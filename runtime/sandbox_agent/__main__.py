"""`python -m sandbox_agent`: the same as the command `sandbox-agent`."""

import sys

from sandbox_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
