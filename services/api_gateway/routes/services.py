"""`/api/v1/services`: the registry of service types."""

import json
from decimal import Decimal
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from services.api_gateway.body import decode_body, read_body
from services.api_gateway.dependencies import resources_of
from services.api_gateway.json_schema import compile_schema
from services.api_gateway.schemas import Service, ServiceBody, request_body
from services.api_gateway.validation import Rejected, check_value
from shared.contracts import exact_json
from shared.domain.billing_config import rate_terms
from shared.domain.errors import Conflict, InvalidRequest, NotFound
from shared.domain.service_types import SHIPPED, ServiceType
from shared.storage.registry import Registration
from shared.web.responses import ExactJSONResponse

router = APIRouter(prefix="/api/v1/services", tags=["services"])

_MAX_LEVELS = 64


@router.post(
    "",
    status_code=201,
    response_model=Service,
    openapi_extra=request_body({"application/json": ServiceBody}),
)
async def register_service(request: Request) -> Response:
    """Register a service type of your own, with its rates. Events of it are accepted at once."""
    resources = resources_of(request)
    scope = await resources.authenticator.tenant(request, scope="admin")
    body = decode_body(
        await read_body(request, max_bytes=256 * 1024), content_type=request.headers.get("content-type", "")
    )
    _check_storable(body)
    registration = _registration(body)
    if registration.service_type in SHIPPED:
        raise Conflict(f"`{registration.service_type}` is a shipped service type; choose another name.")
    terms = (
        rate_terms(registration.billing_config, providers=registration.providers) if registration.billing_config else []
    )
    if registration.validation_schema is not None:
        compile_schema(registration.validation_schema)
    added = await resources.registry_store.register(scope, registration, terms)
    await resources.registry.refresh()
    return ExactJSONResponse(_as_registered(added, has_rates=True), status_code=201)


@router.get("", response_model=list[Service])
async def list_services(request: Request) -> Response:
    """The shipped service types and the tenant's own."""
    resources = resources_of(request)
    scope = await resources.authenticator.tenant(request, scope="read")
    has_rates = await _may_see_rates(request)
    own = [_as_registered(item, has_rates=has_rates) for item in await resources.registry_store.list(scope)]
    return ExactJSONResponse([*(_as_shipped(kind) for kind in SHIPPED.values()), *own])


@router.get("/{service_type}", response_model=Service)
async def get_service(request: Request, service_type: str) -> Response:
    resources = resources_of(request)
    scope = await resources.authenticator.tenant(request, scope="read")
    if kind := SHIPPED.get(service_type):
        return ExactJSONResponse(_as_shipped(kind))
    for item in await resources.registry_store.list(scope):
        if item.service_type == service_type:
            return ExactJSONResponse(_as_registered(item, has_rates=await _may_see_rates(request)))
    raise NotFound("There is no such service type.")


async def _may_see_rates(request: Request) -> bool:
    principal = await resources_of(request).authenticator.principal(request.headers)
    return principal.may("costs:read")


def _check_storable(body: Any) -> None:
    """No text or number that the database could not hold, wherever it stands."""
    try:
        check_value("body", body, _MAX_LEVELS)
    except Rejected as error:
        item = {"field": error.field, "code": error.code, "message": error.message}
        raise InvalidRequest(f"{error}.", errors=[item]) from error


def _registration(body: Any) -> Registration:
    """The body as exact values: pydantic checks its shape, the amounts stay the Decimals that were read."""
    try:
        checked = ServiceBody.model_validate(body)
    except ValidationError as error:
        items = [
            {"field": ".".join(map(str, item["loc"])) or "body", "code": item["type"], "message": item["msg"]}
            for item in error.errors()
        ]
        raise InvalidRequest(f"{items[0]['field']}: {items[0]['message']}.", errors=items) from error
    return Registration(
        service_type=checked.service_type,
        service_name=checked.service_name,
        description=checked.description,
        providers=checked.providers,
        required_fields=checked.required_fields,
        optional_fields=checked.optional_fields,
        # a schema's numbers are bounds, not amounts: plain JSON
        validation_schema=checked.validation_schema and json.loads(exact_json.dumps(checked.validation_schema)),
        billing_config=body.get("billing_config"),
    )


def _as_registered(item: Registration, *, has_rates: bool) -> dict[str, Any]:
    shown = {
        "service_type": item.service_type,
        "service_name": item.service_name,
        "description": item.description,
        "providers": list(item.providers),
        "required_fields": list(item.required_fields),
        "optional_fields": list(item.optional_fields),
        "validation_schema": item.validation_schema,
        "version": item.version,
        "is_enabled": item.is_enabled,
        "is_shipped": False,
        "created_at": item.created_at,
    }
    if has_rates:
        shown["billing_config"] = item.billing_config and {
            **item.billing_config,
            "rates": _as_numbers(item.billing_config["rates"]),
        }
    return shown


def _as_numbers(rates: Any) -> Any:
    """Amounts are kept as text, so that they stay exact, and shown as the numbers that were sent."""
    if isinstance(rates, str):
        return Decimal(rates)
    return {name: _as_numbers(value) for name, value in rates.items()} if isinstance(rates, dict) else rates


def _as_shipped(kind: ServiceType) -> dict[str, Any]:
    return {
        "service_type": kind.service_type,
        "service_name": kind.service_type.replace("_", " ").title(),
        "description": None,
        "providers": [],
        "required_fields": list(kind.required),
        "optional_fields": list(kind.optional),
        "validation_schema": None,
        "version": kind.version,
        "is_enabled": True,
        "is_shipped": True,
        "created_at": None,
    }
