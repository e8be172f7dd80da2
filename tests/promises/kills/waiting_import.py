"""Hangs while it is imported for a call, though not when it is only looked at."""

import os
import time

if os.path.exists("described"):
    os.write(1, b"importing\n")
    time.sleep(300)
open("described", "w").close()


def tool() -> str:
    return "never"
