"""Everything that crosses a process: one file for each kind of message."""
