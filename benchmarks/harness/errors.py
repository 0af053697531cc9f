"""The one error of a measurement that cannot be made."""


class MeasurementError(Exception):
    """Something is not as the measurement needs it; the message says what, and what to change."""
