"""`python -m provider`: the stub as a process of its own. Its first line is its address.

Dies with its parent. Other processes ask it what came at /_stub/requests, and let held answers go
on with a POST to /_stub/open?number=N.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
from pathlib import Path

from provider.script import Script, Then
from provider.stub import Stub

PR_SET_PDEATHSIG = 1
ENDS = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        return
    # Before there is a thread that could get them, and before clients know the port.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    parser = argparse.ArgumentParser(prog="python -m provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--script", type=Path, metavar="FILE", help="JSON; see provider/script.py")
    parser.add_argument("--any-history", action="store_true", help="do not check requests")
    parser.add_argument("--forget", action="store_true", help="do not keep requests' bodies")
    options = parser.parse_args()
    script = Script.load(options.script) if options.script else Script(then=Then.DONE)
    check, keep = not options.any_history, not options.forget
    with Stub(script, validate=check, keep=keep, port=options.port) as stub:
        print(stub.address, flush=True)
        signal.sigwait(ENDS)


if __name__ == "__main__":
    main()
