"""Serves with Starlette on uvicorn (httptools, uvloop): run as `starlette_app.py PORT`."""

import json
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.path_params['number']}")


async def echo_json(request: Request) -> Response:
    document = json.loads(await request.body())
    return Response(json.dumps(document), media_type="application/json")


app = Starlette(routes=[Route("/hello/{number:int}", hello), Route("/json", echo_json, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )
