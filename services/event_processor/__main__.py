"""Read settings, configure logs, serve."""

from services.event_processor.app import create_app
from services.event_processor.settings import EventProcessorSettings
from shared.config.settings import read_settings
from shared.observability.logs import configure_logs
from shared.web.server import serve


def main() -> None:
    settings = read_settings(EventProcessorSettings)
    configure_logs(service="event_processor", level=settings.log_level, log_format=settings.log_format)
    serve(create_app(settings), host=settings.host, port=settings.event_processor_port)


if __name__ == "__main__":
    main()
