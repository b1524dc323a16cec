"""New ids of datasets: version 7 UUIDs, which grow with time."""

import os
import time


def new() -> str:
    """Return a new id, 32 lowercase hexadecimal digits."""
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    number &= ~((0xF << 76) | (0x3 << 62))
    return f"{number | (0x7 << 76) | (0x2 << 62):032x}"
