"""What something costs, in operations of the interpreter: the same on every machine, whatever else runs there."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def num_operations(action: Callable[[], object]) -> int:
    """Of everything in Python that it calls; what is written in C counts as one, however long it takes."""
    num = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal num
        frame.f_trace_opcodes = True
        num += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return num
