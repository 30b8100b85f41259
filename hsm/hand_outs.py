"""How many PINs this host shows to cardholders, and takes from pages, on a day and for a grant.

It bounds what somebody gets who has a client's secret, or runs code in the web tier, until that is
seen in the logs.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from hsm import metrics
from hsm.counts import DAY_SECONDS, Counts, Quota
from hsm.errors import GrantRefused, LimitReached
from hsm.grants import Grant
from hsm.log.lines import Action
from hsm.manifest.limits import LimitsBody
from hsm.port import CardRef

#: A page shows an image and the digits, each once. It sends a few PINs, as the policy may refuse
#: some, and each may meet other changes of its card.
GRANT_MAX: Final[Mapping[Action, int]] = {
    Action.IMAGE: 1,
    Action.TEXT: 1,
    Action.SET: 20,
    Action.DEVICE: 1,
}
DEVICE_KEY: Final = "device-key"
DEVICE_KEYS_MAX: Final = 3
"""For a grant: a device that got no answer asks again, within the 30 s of its control token."""
CARD, CLIENT, ISSUER = "card", "client", "issuer"
BUREAU: Final = "bureau"
#: What the log says of the last hand-out of a day.
EVENTS: Final[Mapping[str, tuple[int, str]]] = {
    CARD: (logging.WARNING, "handouts.card_limit"),
    CLIENT: (logging.ERROR, "alarm.handouts_client"),
    ISSUER: (logging.ERROR, "alarm.handouts_issuer"),
    BUREAU: (logging.ERROR, "alarm.handouts_bureau"),
}
CLIENT_HALF: Final = (logging.WARNING, "handouts.client_half")
"""What it says of a client that has had a half: time to look, before the day's last."""
log = logging.getLogger(__name__)


class HandOuts:
    """Counts hand-outs, before they are made."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def count(self, limits: LimitsBody, grant: Grant, what: Action) -> None:
        """Count a hand-out; *what* is one of :data:`GRANT_MAX`.

        Raises:
            LimitReached: a limit of the grant, the card, the client or the issuer was reached
                before. Nothing is counted.
            CountsUnavailable: it could not be counted.
        """
        of_grant = _of_grant(grant, what.value, GRANT_MAX[what])
        self._count(of_grant, *self._of_today(limits, grant.card, grant.client_id))

    def count_device_key(self, grant: Grant) -> None:
        """Count a key that is made for a device; it shows and sets nothing.

        Raises:
            GrantRefused: there are as many of the grant as may be.
            CountsUnavailable: it could not be counted.
        """
        try:
            self._count(_of_grant(grant, DEVICE_KEY, DEVICE_KEYS_MAX))
        except LimitReached:
            raise GrantRefused("as many keys were made for the grant as may be") from None

    def count_without_grant(self, limits: LimitsBody, card: CardRef, client_id: str) -> None:
        """Count a hand-out to an issuer's own server.

        Raises:
            LimitReached: a limit of the card, the client or the issuer was reached before. Nothing
                is counted.
            CountsUnavailable: it could not be counted.
        """
        self._count(*self._of_today(limits, card, client_id))

    def _of_today(self, limits: LimitsBody, card: CardRef, client_id: str) -> Sequence[Quota]:
        today, issuer_id = self._counts.today(), card.issuer_id
        return (
            Quota(today, issuer_id, CARD, card.card_id, limits.handouts_card_day_max),
            Quota(today, issuer_id, CLIENT, client_id, limits.handouts_client_day_max),
            Quota(today, issuer_id, ISSUER, "", limits.handouts_issuer_day_max),
        )

    def _count(self, *quotas: Quota) -> None:
        for quota, number in zip(quotas, self._counts.hand_out(quotas), strict=True):
            if quota.kind in EVENTS and number == quota.hand_outs_max:
                _say(*EVENTS[quota.kind], quota, number)
            elif quota.kind == CLIENT and number == -(-quota.hand_outs_max // 2):
                _say(*CLIENT_HALF, quota, number)
                metrics.half_handed_out(CLIENT)

    def count_mailers(self, issuer_id: str, mailers: int, day_max: int) -> None:
        """Count PINs for the bureau of an issuer, all of them or none.

        They are none of those that cardholders see: a batch does not keep these from theirs.

        Raises:
            LimitReached: that many may not be handed out any more today. None is counted.
            CountsUnavailable: it could not be counted.
        """
        quota = Quota(self._counts.today(), issuer_id, BUREAU, "", day_max)
        for number in self._counts.hand_out([quota] * mailers):
            if number == day_max:
                _say(*EVENTS[BUREAU], quota, number)


def _of_grant(grant: Grant, kind: str, most: int) -> Quota:
    # Of one day whenever it is used: else there would be more at midnight.
    last_day = grant.expires_at // DAY_SECONDS
    return Quota(last_day, grant.card.issuer_id, kind, grant.grant_id, most)


def _say(level: int, event: str, quota: Quota, number: int) -> None:
    named = {CARD: {"card_id": quota.key}, CLIENT: {"client_id": quota.key}}
    of_whom = named.get(quota.kind, {})
    extra = {"issuer_id": quota.issuer_id, "count": number, **of_whom}
    log.log(level, event, extra=extra)
