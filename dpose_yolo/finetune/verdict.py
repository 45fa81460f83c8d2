"""Whether a fine-tuned model should replace the one it started from, by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass

from dpose_yolo.metrics.bootstrap import Difference


@dataclass
class Verdict:
    """An advice.

    Attributes:
        ship: `yes`, `no`, or `unsure` where the intervals leave it open.
        sentence: the advice with its reason, in one sentence.
    """

    ship: str
    sentence: str


def verdict(new: Difference, old: Difference | None, max_drop: float) -> Verdict:
    """Advice from the change of AP on the new data and, where it was measured, on the old.

    - no: the new data gains nothing for certain (its 95 % interval ends at 0 or below), or the old data loses more than
      `max_drop` for certain (its interval ends below -max_drop);
    - yes: the new data gains for certain (the interval begins above 0), and the old data loses no more than `max_drop`
      for certain (the interval begins at -max_drop or above), or was not measured, which is said;
    - unsure: everything else.

    Without intervals (`bootstrap=0`) there is no certainty: low and high are NaN, and the advice is `unsure`.

    Args:
        new: AP after less AP before, on the new data, with its interval.
        old: that on the old data, None if it was not measured.
        max_drop: AP that may be lost on the old data.
    """
    gained = f"the new data gains {_told(new)} AP"
    lost = "" if old is None else f", the old data changes by {_told(old)} ({max_drop:g} may be lost)"
    if new.high <= 0:
        return Verdict("no", f"Do not ship it: the new data gains nothing, {_told(new)} AP{lost}.")
    if old is not None and old.high < -max_drop:
        return Verdict("no", f"Do not ship it for both cabins: {gained}{lost}.")
    if not new.low > 0:
        return Verdict("unsure", f"Unsure: {gained}, which is not certain{lost}; measure on more images.")
    if old is None:
        return Verdict("yes", f"Ship it for the new cabin only: {gained}, and the old data was not measured (old=).")
    if not old.low >= -max_drop:
        return Verdict("unsure", f"Unsure: {gained}{lost}, which is not certain; measure on more images.")
    return Verdict("yes", f"Ship it: {gained}{lost}.")


def _told(change: Difference) -> str:
    span = "" if change.low != change.low else f" (95 %: {change.low:+.3f} to {change.high:+.3f})"
    return f"{change.mean:+.3f}{span}"
