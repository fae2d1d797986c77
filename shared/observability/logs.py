"""structlog, once per process: JSON lines or console, with request and trace ids bound by the middleware."""

import logging
import sys
import traceback

import structlog


def configure_logs(*, service: str, level: str, log_format: str) -> None:
    """Call once, in `__main__`, before anything logs."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(traceback_of),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # libraries log through the standard module: same lines, same place
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_drop_internals, renderer])
    )
    logging.basicConfig(
        handlers=[handler], level=max(logging.getLevelNamesMapping()[level], logging.WARNING), force=True
    )


def _drop_internals(
    logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, name, event)


def traceback_of(exc_info: structlog.typing.ExcInfo) -> str:
    """The traceback of an exception and its causes, with the first line of each message only.

    A database driver puts the row at fault into the lines below (`DETAIL: Failing row contains …`): that is a payload.
    """
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None:
        first_line = (str(error).splitlines() or [""])[0]
        parts.append("".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__qualname__}: {first_line}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\ncaused ".join(reversed(parts))
