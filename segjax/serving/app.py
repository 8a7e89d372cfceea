"""The web application: addresses, bodies, errors and cookies; `Server` makes the answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any

from absl import logging
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segjax.errors import InputError
from segjax.serving.guard import LOOPBACK, Guard
from segjax.serving.server import ConflictError, NotFoundError, Server

PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/drawing.js": ("drawing.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
# Largest body of a request without a file, bytes.
MAX_JSON = 2**20

Handler = Callable[..., Any]


class TooLargeError(InputError):
    """The body of a request is too large."""


def make_app(server: Server, hosts: frozenset[str] | None = LOOPBACK) -> Starlette:
    """Returns the application.

    Args:
      server: makes the answers.
      hosts: names and addresses by which it may be called, see `Guard`.
    """
    upload = server.limits.upload
    image = "/api/images/{key}"
    routes = [
        *(Route(path, partial(_file, *file)) for path, file in PAGE.items()),
        Route("/api/methods", _endpoint(server.methods)),
        Route("/api/segment", _endpoint(server.segment_once, upload), methods=["POST"]),
        Route("/api/images", _endpoint(server.list_images)),
        Route("/api/images", _endpoint(server.upload, upload), methods=["POST"]),
        Route(image, _endpoint(server.remove), methods=["DELETE"]),
        Route(f"{image}/picture.png", _endpoint(server.picture)),
        Route(f"{image}/labels.png", _endpoint(server.labels)),
        Route(f"{image}/segment", _endpoint(server.segment), methods=["POST"]),
        Route(f"{image}/correct", _endpoint(server.correct), methods=["POST"]),
        Route(f"{image}/exports.zip", _endpoint(server.exports)),
        Route("/api/dataset.zip", _endpoint(server.data_set)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)])


async def _file(name: str, media_type: str, request: Request) -> Response:
    del request
    return Response((files("segjax.serving") / name).read_bytes(), media_type=media_type)


def _endpoint(handle: Handler, limit: int = MAX_JSON) -> Callable[[Request], Awaitable[Response]]:
    """Returns an endpoint that answers in a thread; errors are one sentence in JSON.

    Args:
      handle: function of the token of the user, the query, the body, and the path parameters by name; it
        returns a token, and bytes with their type or an object for JSON.
      limit: largest body, bytes.
    """

    async def endpoint(request: Request) -> Response:
        # Browsers send cookies to all ports of a host.
        cookie = f"segjax{request.url.port}"
        token = request.cookies.get(cookie)
        try:
            body = await _body(request, limit)
            query = dict(request.query_params)
            new_token, content = await run_in_threadpool(handle, token, query, body, **request.path_params)
        except InputError as error:
            status = {NotFoundError: 404, ConflictError: 409, TooLargeError: 413}.get(type(error), 400)
            return JSONResponse({"error": str(error)}, status)
        except Exception as error:  # a failed request does not stop the server
            logging.exception("a request failed")
            return JSONResponse({"error": f"the server failed ({type(error).__name__}: {error})"}, 500)
        if isinstance(content, tuple):
            data, media_type = content
            response: Response = Response(data, media_type=media_type)
        else:
            response = JSONResponse(content)
        if new_token is not None and new_token != token:
            response.set_cookie(cookie, new_token, httponly=True, samesite="strict")
        return response

    return endpoint


async def _body(request: Request, limit: int) -> bytes:
    """Reads a body up to the limit, whatever length its header states.

    Raises:
      TooLargeError: if it is larger.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"the body is larger than {limit / 2**20:g} MiB: give a smaller file")
    return bytes(body)
