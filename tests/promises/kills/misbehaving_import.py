"""Goes wrong while it is imported, which is before the call is acknowledged. See misbehaving."""

import misbehaving

misbehaving.say("half ")
misbehaving.go_wrong()


def tool() -> str:
    return "whole"
