"""Read settings, configure logs, serve."""

from services.api_gateway.app import create_app
from services.api_gateway.settings import ApiGatewaySettings
from shared.config.settings import read_settings
from shared.observability.logs import configure_logs
from shared.web.server import serve


def main() -> None:
    settings = read_settings(ApiGatewaySettings)
    configure_logs(service="api_gateway", level=settings.log_level, log_format=settings.log_format)
    serve(create_app(settings), host=settings.host, port=settings.api_gateway_port)


if __name__ == "__main__":
    main()
