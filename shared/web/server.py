"""Serve an app until SIGTERM or SIGINT: stop taking connections, finish what is under way, run the app's shutdown, exit."""

import uvicorn
from fastapi import FastAPI


def serve(app: FastAPI, *, host: str, port: int, drain_seconds: int = 20) -> None:
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=drain_seconds,
        timeout_keep_alive=65,
        backlog=4096,
    )
