"""What routers get to know of each other's requests."""

from dataclasses import replace
from enum import StrEnum

from router import Reservation


class Sharing(StrEnum):
    """Receipts reach all routers, unless it says otherwise; they mean nothing to a router without the reservation."""

    ALL = "all"
    LOAD_ONLY = "load only"
    """Reservations without their blocks, so that each estimates only from what it sent itself."""
    NO_RESERVATIONS = "no reservations"
    """Receipts of all requests, but reservations of their own only."""
    NOTHING = "nothing"
    """Nor receipts of requests that others routed."""

    def as_told(self, reservation: Reservation) -> Reservation | None:
        """What the other routers hear of a reservation."""
        match self:
            case Sharing.ALL:
                return reservation
            case Sharing.LOAD_ONLY:
                return replace(reservation, request=replace(reservation.request, block_hashes=()))
            case Sharing.NO_RESERVATIONS | Sharing.NOTHING:
                return None
