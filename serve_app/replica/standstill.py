"""Ends a process that stands still, as Serve waits for one that does not answer as long as for one that drains.

A timer of the interpreter's own, which needs neither the event loop nor Python: a lock that no one gives back, or a
call that never returns, does not stop it. What stood still is in the process' error log then.
"""

import faulthandler

EXIT_STATUS = 1


def end_unless_moving(within_s: float) -> None:
    """End this process, with a traceback of each of its threads, unless this is called again in time.

    There is one such timer in a process.
    """
    faulthandler.dump_traceback_later(within_s, exit=True)
