"""What each key used on which day, as far as it has not been written down yet. Pure."""

from __future__ import annotations

from datetime import date

from llmservice_api.gateway_usage import Days, Used


class Usage:
    """Counts until they are `taken`."""

    def __init__(self) -> None:
        self._days: dict[date, dict[str, Used]] = {}

    def add(self, day: date, key: str, prompt_tokens: int, answer_tokens: int) -> None:
        """One request more."""
        keys = self._days.setdefault(day, {})
        keys[key] = keys.get(key, Used()) + Used(1, prompt_tokens, answer_tokens)

    def give_back(self, days: Days) -> None:
        """They could not be written."""
        for day, keys in days.items():
            mine = self._days.setdefault(day, {})
            for key, used in keys.items():
                mine[key] = mine.get(key, Used()) + used

    def taken(self) -> Days:
        """All that was counted since the last time."""
        days, self._days = self._days, {}
        return days
