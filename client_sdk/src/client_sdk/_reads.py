"""The reading half of the tracker: each method is one GET, and raises what went wrong.

Amounts come back as `Decimal`, digit for digit. A naive datetime in a read is taken as UTC. A filter that is None is
not sent; a list is sent as a repeated parameter; any other keyword goes to the server as it is (`timezone`, `tags`...).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

Instant = datetime | date | str
Page = dict[str, Any]


class UsageReads(ABC):
    @abstractmethod
    async def _get(self, path: str, parameters: Mapping[str, object]) -> Any: ...

    async def get_usage(
        self,
        start_date: Instant | None = None,
        end_date: Instant | None = None,
        service_type: str | None = None,
        service_provider: str | None = None,
        user_id: str | None = None,
        customer_id: str | None = None,
        model: str | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
        offset: int | None = None,
        include_billing: bool = True,
        **filters: object,
    ) -> Page:
        """Events, newest page first as the server orders them; the next page by `cursor` or `offset`."""
        parameters = {
            "start_date": start_date,
            "end_date": end_date,
            "service_type": service_type,
            "service_provider": service_provider,
            "user_id": user_id,
            "customer_id": customer_id,
            "model": model,
            "limit": limit,
            "cursor": cursor,
            "offset": offset,
            "include_billing": include_billing,
        }
        return await self._read("/usage", filters, **parameters)

    async def get_aggregate(
        self,
        *,
        period: str = "day",
        start_date: Instant | None = None,
        end_date: Instant | None = None,
        **filters: object,
    ) -> Page:
        """Sums for each hour, day, week or month."""
        return await self._read("/usage/aggregate", filters, period=period, start_date=start_date, end_date=end_date)

    async def get_by_service(
        self, *, start_date: Instant | None = None, end_date: Instant | None = None, **filters: object
    ) -> Page:
        """Sums for each service type and provider."""
        return await self._read("/usage/by-service", filters, start_date=start_date, end_date=end_date)

    async def get_costs(
        self,
        *,
        group_by: str | None = None,
        start_date: Instant | None = None,
        end_date: Instant | None = None,
        **filters: object,
    ) -> Page:
        """Costs, grouped as the server does by default unless `group_by` says otherwise."""
        return await self._read("/usage/costs", filters, group_by=group_by, start_date=start_date, end_date=end_date)

    async def get_trends(
        self,
        *,
        metric: str = "event_count",
        period: str = "day",
        start_date: Instant | None = None,
        end_date: Instant | None = None,
        **filters: object,
    ) -> Page:
        """One metric over time."""
        window = {"start_date": start_date, "end_date": end_date}
        return await self._read("/analytics/trends", filters, metric=metric, period=period, **window)

    async def get_top_users(
        self,
        *,
        metric: str | None = None,
        limit: int = 10,
        start_date: Instant | None = None,
        end_date: Instant | None = None,
        **filters: object,
    ) -> Page:
        """The users who consumed most."""
        window = {"start_date": start_date, "end_date": end_date}
        return await self._read("/analytics/top-users", filters, metric=metric, limit=limit, **window)

    async def _read(self, path: str, filters: Mapping[str, object], **named: object) -> Page:
        given = {name: value for name, value in {**named, **filters}.items() if value is not None}
        page: Page = await self._get(f"/api/v1{path}", {name: _parameter(value) for name, value in given.items()})
        return page


def _parameter(value: object) -> object:
    if isinstance(value, list | tuple | set | frozenset):
        return [_parameter(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return (value if value.utcoffset() is not None else value.replace(tzinfo=UTC)).isoformat()
    return str(value)
