"""What a probe sends: one small streamed completion, with the key as the environment holds it now."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from collectors.sources.probe.providers import OTHER, Provider
from core.errors import CollectorError
from core.settings import ProbeSettings

ADJUSTABLE: Final = frozenset({"max_completion_tokens", "temperature", "stream_options"})
"""What an endpoint may want changed; it says so when it refuses. The first is asked for, the others are unwanted."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request ready to be sent. Lives for one request, since it holds the key."""

    url: httpx.URL
    body: Mapping[str, Any]
    key: str = field(repr=False)
    timeout_seconds: float
    provider: Provider

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it; a compressed answer would arrive in blocks, not token by token."""
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "User-Agent": "vatio"}
        return headers | ({"Authorization": f"Bearer {self.key}"} if self.key else {})


def question(settings: ProbeSettings, provider: Provider = OTHER, adjusted: Collection[str] = ()) -> Question:
    """The request that the settings ask for, in the way that this provider wants it.

    ``url`` may be the server, the base that OpenAI clients take (``…/v1``), or the full path of either
    completions method. ``adjusted`` holds those of ``ADJUSTABLE`` that a refusal has named.

    Raises:
        CollectorError: it cannot be sent, or not without giving the key away.
    """
    url = _url(settings.url)
    key = _key(settings.api_key_env)
    if key and url.scheme != "https" and not _is_loopback(url.host):
        raise CollectorError(f"{settings.api_key_env} would cross the network unencrypted; expected an https url")
    chat = url.path.endswith("/chat/completions")
    limit = provider.limit if chat else "max_tokens"
    limit = "max_completion_tokens" if "max_completion_tokens" in adjusted else limit
    unwanted = {*adjusted, *provider.refuses}
    body: dict[str, Any] = {"model": settings.model, limit: settings.max_tokens, "stream": True}
    if "stream_options" not in unwanted:
        body["stream_options"] = {"include_usage": True}
    if "temperature" not in unwanted:
        body["temperature"] = 0
    if chat:
        body["messages"] = [{"role": "user", "content": settings.prompt}]
    else:
        body["prompt"] = settings.prompt
    return Question(url, body, key, settings.timeout_seconds, provider)


def _url(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as exc:
        raise CollectorError(f"{address} is not a URL: {exc}") from exc
    if url.port is not None and url.port > 65535:
        raise CollectorError(f"{address} is not a URL: no such port")
    path = url.path.rstrip("/")
    return url.copy_with(path=path if path.endswith("/completions") else f"{path or '/v1'}/chat/completions")


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise CollectorError(f"environment variable {variable} is not set")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CollectorError(f"environment variable {variable} holds no usable key (spaces or control characters)")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
