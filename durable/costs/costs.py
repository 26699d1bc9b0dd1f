"""What steps cost: amounts that bodies report, exact to the last digit, and never counted as zero when they are not known."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING

from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Number = int | float | Decimal
Amounts = dict[str, Decimal]

USD = "usd"
ELSEWHERE: contextvars.ContextVar[list[Amounts] | None] = contextvars.ContextVar("durable_elsewhere", default=None)
_EXACT = Context(prec=2000)  # sums of amounts lose no digit
_NOTHING = Decimal(0)
_LEAST_SHOWN = Decimal("0.0001")
_MOST = Decimal(10) ** 300
_LEAST_EXPONENT = -400


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent: `usd` in US dollars, other `units` (tokens, pages) by name, each the exact sum of what was reported.

    `unknown` counts the executions of which nobody knows what they cost: killed, or without a valid amount.
    """

    usd: Decimal = _NOTHING
    units: Mapping[str, Decimal] = field(default_factory=dict)
    unknown: int = 0

    def __bool__(self) -> bool:
        """Whether anything was spent, or may have been."""
        return bool(self.usd or self.units or self.unknown)

    def __add__(self, other: Cost) -> Cost:
        """Give the exact sum."""
        return cost_of(added(self.amounts, other.amounts), self.unknown + other.unknown)

    def __str__(self) -> str:
        """Show it in one line: `$1.24, 5200 tokens_in`."""
        return ", ".join([dollars(self.usd), *(f"{plain(each)} {unit}" for unit, each in sorted(self.units.items()))])

    @property
    def amounts(self) -> Amounts:
        """All that was spent by its unit, `usd` among them."""
        return ({USD: self.usd} if self.usd else {}) | dict(self.units)


def cost_of(amounts: Mapping[str, Decimal], unknown: int = 0) -> Cost:
    """Make what users see of amounts."""
    units = {unit: each for unit, each in amounts.items() if unit != USD}
    return Cost(amounts.get(USD, _NOTHING), units, unknown)


def added(amounts: Mapping[str, Decimal], more: Mapping[str, Decimal]) -> Amounts:
    """Add amounts exactly, unit by unit."""
    total = dict(amounts)
    for unit, each in more.items():
        total[unit] = _EXACT.add(total.get(unit, _NOTHING), each)
    return total


def total_of(costs: Iterable[Cost]) -> Cost:
    """Add costs exactly."""
    amounts: Amounts = {}
    unknown = 0
    for cost in costs:
        amounts = added(amounts, cost.amounts)
        unknown += cost.unknown
    return cost_of(amounts, unknown)


def amount(value: object) -> Decimal:
    """Take a number as the exact amount that it is written as; raises ValueError for what is no amount."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ValueError(f"{value!r} is no number (int, float or Decimal)")  # noqa: TRY004 -- one kind of error for all
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite() or exact < 0:
        raise ValueError(f"{value!r} is no amount: amounts are finite and not negative")
    if exact and (exact >= _MOST or int(exact.as_tuple().exponent) < _LEAST_EXPONENT):
        raise ValueError("an amount is below 1e300 and has at most 400 decimal places")
    return exact.copy_abs()  # of -0.0 too


def amounts_of(usd: object, units: Mapping[str, object]) -> Amounts:
    """Take what is said to have been spent; raises ValueError for what is no amount, and for nothing at all."""
    given = ({USD: usd} if usd is not None else {}) | dict(units)
    if not given:
        raise ValueError("no amount is given")
    found: Amounts = {}
    for unit, value in given.items():
        if not isinstance(unit, str) or not unit:
            raise ValueError(f"{unit!r} is no name of a unit")
        try:
            found[unit] = amount(value)
        except ValueError as error:
            raise ValueError(f"{unit}={error}") from None
    return found


def budget_of(value: object) -> Decimal:
    """Take a number as a budget in US dollars; raises ValueError."""
    budget = amount(value)
    if not budget:
        raise ValueError(f"{value} lets nothing be executed: give more than 0")
    return budget


def written_budget(text: str) -> Decimal:
    """Take the text of a number as a budget in US dollars; raises `ConfigurationError`."""
    try:
        return budget_of(Decimal(text.strip().removeprefix("$")))
    except (ValueError, ArithmeticError) as error:
        problem = error if isinstance(error, ValueError) else f"{text!r} is no number"
        raise ConfigurationError(f"A budget is a number of US dollars, such as 20 or 0.5: {problem}.") from None


def packed(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    """Write amounts for a record."""
    return {unit: str(each) for unit, each in amounts.items()}


def unpacked(amounts: Mapping[str, str]) -> Amounts:
    """Read what `packed` wrote."""
    return {unit: Decimal(each) for unit, each in amounts.items()}


def plain(number: Decimal) -> str:
    """Write a number without an exponent."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def dollars(usd: Decimal) -> str:
    """Write dollars for people: to the cent; what is less than a dollar, to a hundredth of one, and ever smaller."""
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    if usd >= _LEAST_SHOWN:
        digits = f"{usd:.4f}".rstrip("0")
        return f"${digits}{'0' * (4 - len(digits))}"
    return f"${usd:.1e}"
