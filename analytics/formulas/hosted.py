"""Tokens bought from a hosted API, and how much own hardware must do to be no dearer. USD per million tokens."""

from __future__ import annotations

from dataclasses import dataclass

from analytics.formulas.cost import MILLION, usd_per_million
from analytics.formulas.unknown import per, product, total


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedPrice:
    """List prices (USD per million tokens); ``None`` where the provider names none."""

    input_usd_per_million: float | None
    cached_usd_per_million: float | None = None
    write_usd_per_million: float | None = None
    output_usd_per_million: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedTokens:
    """Tokens by the price they are billed at: each is in one class only. Reasoning tokens are output.

    Those that a provider charges for writing to its cache are ``write_tokens``, and not ``uncached_tokens`` as well.
    """

    uncached_tokens: float | None
    cached_tokens: float | None
    write_tokens: float | None
    output_tokens: float | None


def hosted_usd(tokens: HostedTokens, price: HostedPrice) -> float | None:
    """Cost of the tokens (USD); a class without a price matters only when it has tokens."""
    return total(_input_usd(tokens, price), _billed_usd(tokens.output_tokens, price.output_usd_per_million))


def effective_input_usd_per_million(tokens: HostedTokens, price: HostedPrice) -> float | None:
    """What an input token cost on average, cached or not; ``None`` when there was none."""
    return usd_per_million(_input_usd(tokens, price), _input_tokens(tokens))


def cache_hit_ratio(tokens: HostedTokens) -> float | None:
    """Cached part of the input tokens, 0 to 1."""
    return per(tokens.cached_tokens, _input_tokens(tokens))


def saved_by_cache_usd(tokens: HostedTokens, price: HostedPrice) -> float | None:
    """What the same input had cost without a cache, less what it did (USD).

    Negative when writing to the cache cost more than reading from it saved.
    """
    without = _billed_usd(_input_tokens(tokens), price.input_usd_per_million)
    return total(without, product(_input_usd(tokens, price), -1.0))


def break_even_tokens(
    fixed_usd: float | None, hosted_usd_per_million: float | None, own_usd_per_million: float | None = 0.0
) -> float | None:
    """Tokens over a window from which own hardware is no dearer than a hosted price.

    Args:
        fixed_usd: cost of the hardware over the window, whatever it does.
        hosted_usd_per_million: price of the same mix of tokens elsewhere.
        own_usd_per_million: what a token costs on top, such as electricity.

    Returns:
        ``None`` where an input is unknown, and where the hosted price is so low that it never happens.
    """
    if hosted_usd_per_million is None or own_usd_per_million is None or hosted_usd_per_million <= own_usd_per_million:
        return None
    return product(per(fixed_usd, hosted_usd_per_million - own_usd_per_million), MILLION)


def break_even_utilization_ratio(
    full_use_usd_per_million: float | None, hosted_usd_per_million: float | None
) -> float | None:
    """Part of the time own hardware must work to be no dearer than a hosted price; over 1, it never is."""
    return per(full_use_usd_per_million, hosted_usd_per_million)


def _input_tokens(tokens: HostedTokens) -> float | None:
    return total(tokens.uncached_tokens, tokens.cached_tokens, tokens.write_tokens)


def _input_usd(tokens: HostedTokens, price: HostedPrice) -> float | None:
    return total(
        _billed_usd(tokens.uncached_tokens, price.input_usd_per_million),
        _billed_usd(tokens.cached_tokens, price.cached_usd_per_million),
        _billed_usd(tokens.write_tokens, price.write_usd_per_million),
    )


def _billed_usd(tokens: float | None, price_usd_per_million: float | None) -> float | None:
    return 0.0 if tokens == 0 else per(product(tokens, price_usd_per_million), MILLION)
