"""Is each claim of the documentation true? Programs that measure it. Not part of the wheel."""
