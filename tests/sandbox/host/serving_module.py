"""A session's function for tests: does what the body of a request says."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from typing import Any

WRITING = threading.Lock()


def serve(end: Any) -> None:
    """Answers each request in a thread of its own."""
    if os.environ.get("REFUSE"):
        raise SystemExit("the session refuses")
    end.ready()
    while (asked := end.receive()) is not None:
        threading.Thread(target=answer, args=(end, asked), daemon=True).start()


def answer(end: Any, asked: Any) -> None:
    match asked.body.partition(b" ")[0]:
        case b"die":
            print("last words", flush=True)
            os._exit(3)
        case b"stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            threading.Event().wait()  # this thread may be the last that is stopped: it says nothing
        case b"hang":
            said(end, asked, b"up")
            ctypes.PyDLL(None).sleep(300)  # in C, with the interpreter's lock held
        case b"wait":
            said(end, asked, b"up")
            asked.token.wait(60)
        case b"count":
            for number in range(3):
                said(end, asked, str(number).encode())
        case b"talk":  # for two seconds, without a pause of more than a hundredth
            for number in range(200):
                said(end, asked, str(number).encode())
                time.sleep(0.01)
        case b"dumpable":  # PR_GET_DUMPABLE(2const)
            asked.body = str(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)).encode()
        case b"size":
            asked.body = str(len(asked.body)).encode()
    with WRITING:
        end.done(asked, asked.body)
    asked.close()


def said(end: Any, asked: Any, piece: bytes) -> None:
    with WRITING:
        end.reply(asked, piece)
