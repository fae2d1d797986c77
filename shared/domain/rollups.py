"""What is counted of every event beside its own quantities. Senders' metrics start with a letter: none is called so."""

from typing import Final

EVENTS: Final = "$events"  # sum and count: number of events
ERRORS: Final = "$errors"  # sum and count: number of failed events
UNPRICED: Final = "$unpriced"  # sum and count: number of events without a price
COST: Final = "$cost"  # sum: cost in the currency of the dimension set; count: number of priced events
CHARGE: Final = "$charge"  # sum: charge; count: number of charged events

RESERVED: Final = (EVENTS, ERRORS, UNPRICED, COST, CHARGE)
