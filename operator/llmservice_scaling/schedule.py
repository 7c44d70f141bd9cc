"""A warm floor: so many replicas from one cron expression to the next, in a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from llmservice_runtime.contract.errors import UserError

_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class WarmFloor:
    """At least `replicas` from each `start` to the next `end`; made by `warm_floor`, which checks all four."""

    start: str
    end: str
    zone: str
    replicas: int

    def active(self, wall: datetime) -> bool:
        """Whether it holds at `wall` (with a time zone): its end comes before its next start."""
        return _next(self.end, self.zone, wall) < _next(self.start, self.zone, wall)


def _next(expression: str, zone: str, wall: datetime) -> datetime:
    """When it comes next, as UTC: in the hour that a clock which is set back has twice, what it reads says nothing.

    A time that came in the first of the two hours does not come again in the second one.
    """
    times = (time.astimezone(UTC) for time in CronSim(expression, wall.astimezone(ZoneInfo(zone))))
    return next(time for time in times if time > wall)


def warm_floor(start: str, end: str, zone: str, replicas: int, field: str = "scaling.schedules") -> WarmFloor:
    """UserError that names what is wrong below `field`."""
    for name, expression in (("start", start), ("end", end)):
        _checked(f"{field}.{name}", expression)
    try:
        ZoneInfo(zone)
    except (ValueError, OSError):  # also ZoneInfoNotFoundError, a KeyError, on some systems
        raise _unknown(field, zone) from None
    except KeyError:
        raise _unknown(field, zone) from None
    if replicas < 1:
        raise UserError(f"{field}.replicas is {replicas}: a warm floor is at least 1.", "Set it to 1 or more.")
    return WarmFloor(start, end, zone, replicas)


def floor(floors: tuple[WarmFloor, ...], wall: datetime) -> int:
    """The highest that holds now; 0 = none."""
    return max((one.replicas for one in floors if one.active(wall)), default=0)


def _checked(field: str, expression: str) -> None:
    remedy = "Write five fields, minute hour day month weekday, such as `0 8 * * 1-5`."
    if len(expression.split()) != 5:  # with six, the first would be seconds
        raise UserError(f"{field} `{expression}` has {len(expression.split())} fields, not five.", remedy)
    try:
        next(CronSim(expression, _SOME_DAY))
    except CronSimError as error:
        raise UserError(f"{field} `{expression}` can't be read: {str(error).lower()}.", remedy) from None
    except StopIteration:
        raise UserError(f"{field} `{expression}` names a time that never comes.", remedy) from None


def _unknown(field: str, zone: str) -> UserError:
    return UserError(f"{field}.timeZone `{zone}` is not known.", "Write a name such as `Europe/Berlin` or `UTC`.")
