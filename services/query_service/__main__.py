"""Read settings, configure logs, serve."""

from services.query_service.app import create_app
from services.query_service.settings import QueryServiceSettings
from shared.config.settings import read_settings
from shared.observability.logs import configure_logs
from shared.web.server import serve


def main() -> None:
    settings = read_settings(QueryServiceSettings)
    configure_logs(service="query_service", level=settings.log_level, log_format=settings.log_format)
    serve(create_app(settings), host=settings.host, port=settings.query_service_port)


if __name__ == "__main__":
    main()
