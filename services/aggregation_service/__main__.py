"""Read settings, configure logs, serve."""

from services.aggregation_service.app import create_app
from services.aggregation_service.settings import AggregationServiceSettings
from shared.config.settings import read_settings
from shared.observability.logs import configure_logs
from shared.web.server import serve


def main() -> None:
    settings = read_settings(AggregationServiceSettings)
    configure_logs(service="aggregation_service", level=settings.log_level, log_format=settings.log_format)
    serve(create_app(settings), host=settings.host, port=settings.aggregation_service_port)


if __name__ == "__main__":
    main()
