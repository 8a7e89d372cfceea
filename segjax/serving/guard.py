"""Refuses requests of other web sites, and tells browsers to load nothing from elsewhere."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    # The page asks only its own server, so that no image leaves it.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Middleware that checks who asks.

    A page of another site cannot call the server by a name that leads to this machine, because the name is
    none of `hosts`, nor by its address, because browsers state the origin of such a request.

    Args:
      app: the application.
      hosts: names and addresses by which the server may be called; None for any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = LOOPBACK) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name = urlsplit(f"//{host}").hostname
            is_foreign = origin is not None and urlsplit(origin).netloc != host
        except ValueError:  # no address, such as "["
            name, is_foreign = None, True
        if is_foreign or (self.hosts is not None and name not in self.hosts):
            await PlainTextResponse("this server answers only its own page", 403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
