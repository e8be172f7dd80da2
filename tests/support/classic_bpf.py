"""An interpreter of classic BPF, as far as filters of system calls need it. seccomp(2)"""

from __future__ import annotations

import struct
from collections.abc import Sequence


def bpf(program: bytes, number: int, arguments: Sequence[int], architecture: int) -> int:
    """What a filter returns. Fails where a jump goes astray."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            at += k
        elif operation == 0x15:
            at += yes if accumulator == k else no
        elif operation == 0x35:
            at += yes if accumulator >= k else no
        elif operation == 0x45:
            at += yes if accumulator & k else no
        elif operation == 0x06:
            return int(k)
        else:
            raise AssertionError(f"no such operation: {operation:#x}")
