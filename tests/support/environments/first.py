"""The first process of a container: it starts the command, passes signals on, and exits with its
code once everything else in the container has ended. Standard library only."""

from __future__ import annotations

import os
import signal
import sys

PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
        os.execvp(sys.argv[1], sys.argv[1:])
    for number in PASSED:
        signal.signal(number, lambda number, _: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
    code = 0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended
    sys.exit(code)


if __name__ == "__main__":
    main()
