"""What can be wrong with a calibration.

CalibrationError
|- FitError  the times make no sense
"""


class CalibrationError(Exception):
    """It cannot be done, or is worth nothing; the message says why, and what to do."""


class FitError(CalibrationError):
    """The measured times are not those of steps that take longer the more there is to compute."""
