"""`python -m benchmarks ingest`: run one benchmark and print its figures as JSON."""

import argparse
import json
from pathlib import Path

import uvloop

from benchmarks import ingest


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Measure the product on this machine.")
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    one = commands.add_parser(
        "ingest", help="accepted and committed events/s, next to the raw COPY rate of the same rows"
    )
    one.add_argument("--events", type=int, default=600_000, help="events to drain; default: %(default)s")
    one.add_argument("--seconds", type=float, default=5.0, help="length of each acceptance run; default: %(default)s")
    one.add_argument("--processors", type=int, default=2, help="default: %(default)s")
    one.add_argument("--fsync", choices=("always", "everysec"), default="always", help="of the queue")
    one.add_argument("--port-offset", type=int, default=1000)
    one.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    figures = uvloop.run(
        ingest.run(
            event_count=options.events,
            seconds=options.seconds,
            processors=options.processors,
            fsync=options.fsync,
            port_offset=options.port_offset,
        )
    )
    text = json.dumps(figures, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
