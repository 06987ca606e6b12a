"""Bounded fetching of many small pages over HTTP: nothing a server sends costs more than one failed answer.

A synchronous client can bound each read, but not the whole: a server that sends a byte of its headers
every second keeps such a client busy for hours. Only a task that can be cancelled between two bytes has
a deadline over connecting, headers, redirects and body together, so this one file uses asyncio, inside a
loop of its own that runs while ``fetch_all`` does. Callers see plain functions and values.

httpx's transport is used without its client: no cookies, no proxies or credentials from the environment,
no decompression (a small gzip body could unpack to gigabytes), no redirects but the ones followed here.
Nothing that a server sent is quoted in a reason, since it might send back the key it was given.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

import certifi
import httpx

from core.errors import CollectorError
from core.units import MIB

CONCURRENT = 256  # connections open at once
LARGE_BYTES = MIB  # a body beyond this size waits for one of LARGE_AT_ONCE permits,
LARGE_AT_ONCE = 4  # so memory stays bounded however many servers misbehave together
REDIRECTS = 3
NAME_LOOKUPS = 16

_REDIRECT = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True, slots=True)
class Request:
    """A page to get.

    ``keep`` runs as soon as the body is complete and returns what of it to hold on to; it may refuse the
    body with a ``CollectorError``, whose text becomes the reason.
    """

    url: str
    api_key_env: str | None = None  # name of the variable; its value is read when the request is sent
    keep: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with status 200. Header names are lower case."""

    body: bytes
    headers: Mapping[str, str]
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer, in one line that holds neither secrets nor what the server sent."""

    reason: str
    duration_seconds: float
    status: int | None = None


class _Refusal(CollectorError):
    """An answer that is not taken."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Fetcher:
    """Gets many pages at once. One thread at a time may use it; ``close`` may be called twice.

    Args:
        deadline_seconds: for each answer as a whole, from connecting to the last byte.
        max_body_bytes: a body beyond this is not read further.
    """

    def __init__(self, *, deadline_seconds: float, max_body_bytes: int) -> None:
        self._deadline_seconds = deadline_seconds
        self._max_body_bytes = max_body_bytes
        self._runner: asyncio.Runner | None = None
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody yet
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}  # by URL

    def fetch_all(self, requests: Sequence[Request], deadline_seconds: float | None = None) -> list[Answer | Failure]:
        """The answers, in the order of the requests. Raises nothing for what a server or network does."""
        if not requests:
            return []
        if self._runner is None:
            self._runner = asyncio.Runner()
            self._runner.run(self._open())
        if any(not request.url.startswith("http:") for request in requests):
            _trust_authorities(self._tls)
        return self._runner.run(self._gather(requests, deadline_seconds or self._deadline_seconds))

    def close(self) -> None:
        """Close all connections and the loop."""
        if self._runner is not None:
            self._runner.run(self._keep_only(frozenset()))
            self._runner.close()
            self._runner = None

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(NAME_LOOKUPS, thread_name_prefix="name-lookup"))
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def _gather(self, requests: Sequence[Request], deadline_seconds: float) -> list[Answer | Failure]:
        await self._keep_only(frozenset(request.url for request in requests))
        return await asyncio.gather(*(self._fetch(request, deadline_seconds) for request in requests))

    async def _keep_only(self, urls: frozenset[str]) -> None:
        """Close the connections to all other URLs."""
        for url in self._transports.keys() - urls:
            await self._transports.pop(url).aclose()

    async def _fetch(self, request: Request, deadline_seconds: float) -> Answer | Failure:
        async with self._slots:
            began = time.perf_counter()
            status = None
            try:
                async with asyncio.timeout(deadline_seconds):
                    body, headers = await self._get(request)
                    return Answer(body, headers, time.perf_counter() - began)
            except _Refusal as refusal:
                reason, status = str(refusal), refusal.status
            except CollectorError as exc:
                reason = str(exc)
            except TimeoutError:
                reason = f"no complete answer within {deadline_seconds:g} s"
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
                reason = _describe(exc)
            return Failure(reason, time.perf_counter() - began, status)

    async def _get(self, request: Request) -> tuple[bytes, Mapping[str, str]]:
        url = httpx.URL(request.url)
        headers = _headers(request.api_key_env)
        for _ in range(REDIRECTS + 1):
            response = await self._send(self._transport(request.url), url, headers)
            try:
                if response.status_code not in _REDIRECT:
                    return await self._body(request, response), dict(response.headers)
                url = _same_origin(url, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise _Refusal(f"more than {REDIRECTS} redirects")

    def _transport(self, url: str) -> httpx.AsyncHTTPTransport:
        """One per URL: in a common pool each request walks over all connections, 35 ms for one among 200."""
        if url not in self._transports:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=1, keepalive_expiry=120)
            self._transports[url] = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=limits)
        return self._transports[url]

    async def _send(
        self, transport: httpx.AsyncHTTPTransport, url: httpx.URL, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Ask once more when the connection kept from the last tick turns out to be closed."""
        try:
            return await transport.handle_async_request(httpx.Request("GET", url, headers=headers))
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return await transport.handle_async_request(httpx.Request("GET", url, headers=headers))

    async def _body(self, request: Request, response: httpx.Response) -> bytes:
        if response.status_code != httpx.codes.OK:
            raise _Refusal(_status(response.status_code, request.api_key_env), response.status_code)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _Refusal("the body is compressed although plain text was asked for")
        self._check_size(int(response.headers.get("content-length", 0)))
        body = bytearray()
        async with AsyncExitStack() as permit:
            async for chunk in response.aiter_raw():
                if len(body) <= LARGE_BYTES < len(body) + len(chunk):
                    await permit.enter_async_context(self._large)
                body += chunk
                self._check_size(len(body))
            return request.keep(bytes(body))

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_body_bytes:
            raise _Refusal(f"body exceeds {self._max_body_bytes / MIB:g} MiB")


def _trust_authorities(context: ssl.SSLContext) -> None:
    """Trust what this machine trusts (its own certificate authority, say) and the public authorities.

    Takes 50 ms, once, where there is an https address at all.
    """
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
        context.load_default_certs()


def _headers(api_key_env: str | None) -> dict[str, str]:
    headers = {"Accept": "text/plain;version=0.0.4, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "vatio"}
    if api_key_env is not None:
        key = os.environ.get(api_key_env, "").strip()
        if not key:
            raise _Refusal(f"environment variable {api_key_env} is not set")
        if not (key.isascii() and key.isprintable()):
            raise _Refusal(f"the value of {api_key_env} holds characters that no header can carry")
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _same_origin(url: httpx.URL, location: str) -> httpx.URL:
    target = url.join(location)
    if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
        raise _Refusal("redirects to another host")
    return target


def _status(status: int, api_key_env: str | None) -> str:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return f"HTTP {status}: " + (
            f"the key in {api_key_env} is refused" if api_key_env else "needs a key, set api_key_env"
        )
    return f"HTTP {status}"


def _describe(exc: Exception) -> str:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS certificate refused: {cause.verify_message}"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there (connection refused)"
        cause = cause.__cause__ or cause.__context__
    match exc:
        case httpx.ConnectError():
            return "cannot connect"
        case httpx.ReadError() | httpx.WriteError():
            return "the connection broke off"
        case httpx.RemoteProtocolError():
            return "not a valid HTTP answer, or broken off"
        case _:
            return f"cannot be fetched ({type(exc).__name__})"
