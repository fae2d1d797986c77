"""What the gateway's routes work with, built once in `app.py`."""

from dataclasses import dataclass

import httpx2
from fastapi import Request

from services.api_gateway.ingestion import EventIngestor
from services.api_gateway.registry_cache import RegistryCache
from services.api_gateway.settings import ApiGatewaySettings
from shared.storage.registry import RegistryStore
from shared.web.authentication import Authenticator


@dataclass(frozen=True)
class Resources:
    settings: ApiGatewaySettings
    authenticator: Authenticator
    ingestor: EventIngestor
    registry: RegistryCache
    registry_store: RegistryStore
    query_service: httpx2.AsyncClient


def resources_of(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources
