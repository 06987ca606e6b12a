"""Settings: arguments, then environment (``VATIO_…``, ``__`` nests), then a TOML file, then defaults.

Nothing needs to be set. Units are part of the key's name. An unknown key, a wrong type or an
impossible value raises ``ConfigError`` with one line: where, which key, what was expected.
Every key is described in ``vatio.example.toml``; a test compares the two.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from core.errors import ConfigError
from core.prices import CostSettings
from core.section import Name, NotNegative, Number, Positive, Section, VariableName, like
from core.settings_error import PREFIX, Origins, one_line, unknown_key
from core.sites import Site
from core.summary import SummarySettings

DEFAULT_FILE = "vatio.toml"
FILE_VARIABLE = "VATIO_CONFIG"
OTHER_VARIABLES = {FILE_VARIABLE, "VATIO_SAMPLES"}
# Kubernetes and Docker links describe a service called "vatio" to every container beside it.
_SERVICE_LINK = re.compile(r"_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?)$")


def _with_a_possible_port(url: str) -> str:
    try:
        parts = urlsplit(url)
        possible = parts.port is None or parts.port > 0
    except ValueError:
        possible = False
    if not possible or not parts.hostname:
        raise ValueError("expected http://host:port with a port from 1 to 65535")
    return url


_URL_WORDS = "http://host:port or https://... without credentials or query"
Url = Annotated[str, like(r"https?://[^\s/?#@]+(/[^\s?#]*)?", _URL_WORDS), AfterValidator(_with_a_possible_port)]
UrlPath = Annotated[str, like(r"/[^\s?#]*", "a path that begins with / and has no query")]


class StorageSettings(Section):
    """The database, how long it keeps what, and the spool that stands in for it."""

    url: str = "sqlite:///var/vatio.db"
    keep_samples_days: Annotated[Number, Field(ge=1)] = 400.0
    keep_events_days: Annotated[Number, Field(ge=1)] = 800.0
    keep_ticks_days: Annotated[Number, Field(ge=1)] = 30.0
    spool_folder: Path | None = None
    spool_max_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url.startswith("postgresql+psycopg://"):
            if urlsplit(url).password is not None:
                raise ValueError("expected no password in it: set PGPASSWORD, or use a .pgpass file")
            return url
        if not url.startswith("sqlite:///") or url in ("sqlite:///", "sqlite:///:memory:"):
            raise ValueError("expected sqlite:///path/to/file.db or postgresql+psycopg://user@host/database")
        return url

    @property
    def address(self) -> Path | str:
        """The database: a SQLite file, or the URL of a PostgreSQL database."""
        return Path(self.url.removeprefix("sqlite:///")) if self.url.startswith("sqlite:///") else self.url

    @property
    def place(self) -> str:
        """The database as people look for it: an absolute path, or the URL."""
        return str(self.address.resolve()) if isinstance(self.address, Path) else self.address

    @property
    def spool(self) -> Path:
        """Where batches wait while the database cannot be written: beside a database file, unless set."""
        if self.spool_folder is not None:
            return self.spool_folder
        return (
            self.address.with_name(f"{self.address.name}.spool")
            if isinstance(self.address, Path)
            else Path("var/spool")
        )


SourceName = Literal["nvidia", "amd", "cpu", "host", "serving", "exporters", "probe"]
SOURCE_NAMES: tuple[str, ...] = get_args(SourceName)


class CollectorSettings(Section):
    """How often to look, and how long to wait."""

    interval_seconds: Annotated[Number, Field(ge=0.5, le=300)] = 10.0
    slow_interval_seconds: Annotated[Number, Field(ge=5, le=3600)] = 60.0
    deadline_seconds: Positive = 5.0
    disabled: tuple[SourceName, ...] = ()
    host_name: Name = Field(default_factory=socket.gethostname)
    powercap_root: Path = Path("/sys/class/powercap")

    @model_validator(mode="after")
    def _deadline_fits(self) -> Self:
        if self.deadline_seconds > self.interval_seconds and "deadline_seconds" in self.model_fields_set:
            raise ValueError(
                f"deadline_seconds = {self.deadline_seconds:g} exceeds interval_seconds = {self.interval_seconds:g}; "
                "expected deadline <= interval"
            )
        return self

    @property
    def tick_deadline_seconds(self) -> float:
        """The deadline in force: never longer than the interval, also where only the latter was set."""
        return min(self.deadline_seconds, self.interval_seconds)


class ServerTarget(Section):
    """An inference server to scrape, besides those found on loopback."""

    url: Url
    metrics_path: UrlPath = "/metrics"
    api_key_env: VariableName | None = None
    accelerators: tuple[Name, ...] = ()  # UUIDs, where process ids cannot tell
    labels: dict[Name, Name] = Field(
        default_factory=dict
    )  # pod, namespace, ... : who serves, as exporters of accelerators name it


PRESETS: dict[str, tuple[float, float]] = {
    "llama2-70b conversational": (2.0, 0.200),
    "llama2-70b interactive": (0.450, 0.040),
    "llama3.1-8b conversational": (2.0, 0.100),
    "llama3.1-8b interactive": (0.500, 0.030),
    "llama3.1-405b conversational": (6.0, 0.175),
    "llama3.1-405b interactive": (4.5, 0.080),
    "deepseek-r1 conversational": (2.0, 0.080),
    "deepseek-r1 interactive": (1.5, 0.015),
    "gpt-oss-120b conversational": (3.0, 0.080),
    "gpt-oss-120b interactive": (2.0, 0.020),
}
"""MLPerf Inference's limits of p99, seconds: TTFT and TPOT (mlcommons/inference, LoadGen's server scenario)."""


class Objective(Section):
    """What is promised of a model's latency: a share of requests within each limit."""

    model: Name  # part of the model's name, upper and lower case alike
    preset: str | None = None
    ttft_seconds: Positive | None = None
    tpot_seconds: Positive | None = None
    e2e_seconds: Positive | None = None
    target_ratio: Annotated[Number, Field(gt=0, lt=1)] = 0.99

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"expected one of: {', '.join(PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _promises_something(self) -> Self:
        if not self.limits_seconds:
            raise ValueError("expected preset, ttft_seconds, tpot_seconds or e2e_seconds")
        return self

    @property
    def limits_seconds(self) -> dict[str, float]:
        """Kind of latency to its limit; what is set by itself wins over the preset."""
        ttft, tpot = PRESETS[self.preset] if self.preset is not None else (None, None)
        limits = {"ttft": self.ttft_seconds or ttft, "tpot": self.tpot_seconds or tpot, "e2e": self.e2e_seconds}
        return {kind: limit for kind, limit in limits.items() if limit is not None}


class ServingSettings(Section):
    """Inference servers."""

    discover: bool = True
    loopback_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (
        *(3000, 4000, 8000, 8001, 8002, 8080, 8081, 11434, 23333, 30000),
    )
    max_body_bytes: Annotated[int, Field(ge=1 << 10)] = 16 << 20
    server: tuple[ServerTarget, ...] = ()
    file_sd: tuple[str, ...] = ()
    objective: tuple[Objective, ...] = ()


class ExporterTarget(Section):
    """A metrics page about hardware: another Vatio, DCGM exporter, AMD's exporter, node_exporter, ..."""

    url: Url
    metrics_path: UrlPath = "/metrics"
    api_key_env: VariableName | None = None
    host: Name | None = None  # where the page does not tell; default: the URL's host


class ExporterSettings(Section):
    """Machines that are watched through the exporters they run."""

    target: tuple[ExporterTarget, ...] = ()
    file_sd: tuple[str, ...] = ()
    max_body_bytes: Annotated[int, Field(ge=1 << 10)] = 16 << 20


class ExpositionSettings(Section):
    """The daemon's own metrics page, for Prometheus and for other Vatios."""

    listen: Annotated[str, like(r"([\w.\-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", "host:port such as 127.0.0.1:9479")] = (
        "127.0.0.1:9479"
    )
    enabled: bool = True
    token_env: VariableName | None = None

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listen.rpartition(":")[2])

    @model_validator(mode="after")
    def _open_to_nobody_unasked(self) -> Self:
        if not 0 < self.port < 65536:
            raise ValueError("expected listen with a port from 1 to 65535")
        if self.host not in ("127.0.0.1", "::1", "localhost") and self.token_env is None:
            raise ValueError("expected token_env, since listen is not on loopback")
        return self


class ProbeSettings(Section):
    """One endpoint that is measured by sending it requests. Costs money where tokens do."""

    name: Name
    url: Url
    model: Name
    api_key_env: VariableName | None = None
    prompt: Annotated[str, Field(min_length=1, max_length=4000)] = "Count from one to ten."
    max_tokens: Annotated[int, Field(ge=1, le=512)] = 16
    interval_seconds: Annotated[Number, Field(ge=1)] = 300.0
    jitter_ratio: Annotated[Number, Field(ge=0, le=0.5)] = 0.1
    timeout_seconds: Annotated[Number, Field(gt=0, le=300)] = 30.0
    usd_per_million_input_tokens: NotNegative | None = None
    usd_per_million_output_tokens: NotNegative | None = None
    monthly_cap_usd: NotNegative | None = None

    @model_validator(mode="after")
    def _capped(self) -> Self:
        prices = (self.usd_per_million_input_tokens, self.usd_per_million_output_tokens)
        if any(price is None for price in prices) != all(price is None for price in prices):
            raise ValueError("expected both usd_per_million_input_tokens and usd_per_million_output_tokens, or none")
        if any(prices) and self.monthly_cap_usd is None:
            raise ValueError("expected monthly_cap_usd, since this endpoint has a price")
        if self.monthly_cap_usd is not None and prices[0] is None:
            raise ValueError("expected both prices beside monthly_cap_usd; without them spend cannot be counted")
        if self.timeout_seconds > self.interval_seconds:
            raise ValueError("expected timeout_seconds <= interval_seconds")
        return self


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # a traceback must not repeat a pasted secret either
        env_prefix=PREFIX,
        env_nested_delimiter="__",
    )

    site: Site = Site()
    storage: StorageSettings = StorageSettings()
    collectors: CollectorSettings = Field(default_factory=CollectorSettings)
    serving: ServingSettings = ServingSettings()
    exporters: ExporterSettings = ExporterSettings()
    metrics: ExpositionSettings = ExpositionSettings()
    probe: tuple[ProbeSettings, ...] = ()
    cost: CostSettings = CostSettings()
    summary: SummarySettings = SummarySettings()
    simulated: bool = False

    @field_validator("probe")
    @classmethod
    def _told_apart(cls, probes: tuple[ProbeSettings, ...]) -> tuple[ProbeSettings, ...]:
        if len({probe.name for probe in probes}) < len(probes):
            raise ValueError("expected a different name in every [[probe]]")
        return probes

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; the file's content arrives as the init arguments."""
        return (env_settings, init_settings)


def load(path: str | Path | None = None) -> Settings:
    """Read the settings once.

    Args:
        path: the TOML file; ``None`` means ``$VATIO_CONFIG``, else ``vatio.toml`` if there is one.

    Raises:
        ConfigError: one line that names file or variable, key and expectation.
    """
    named = path or os.environ.get(FILE_VARIABLE)
    file = Path(named or DEFAULT_FILE)
    content = _read(file) if named or file.exists() else {}
    origins = Origins(str(file), content, {name for name in map(str.upper, os.environ) if name.startswith(PREFIX)})
    try:
        settings = Settings(**content)
    except ValidationError as exc:
        raise ConfigError(one_line(exc, Settings, origins)) from exc
    except SettingsError as exc:
        raise ConfigError(f'environment {_undecodable()}: expected JSON such as [1, 2] or {{"key": 1}}') from exc
    _refuse_unknown_variables(settings, origins)
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigError(f"{file}: cannot be read ({reason}); expected a TOML file") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{file}: {exc}; expected TOML, see vatio.example.toml") from exc


def _undecodable() -> str:
    """The variable that is not the JSON it has to be; pydantic names only the section."""
    source = EnvSettingsSource(Settings)
    for name, value in source.env_vars.items():
        source.env_vars = {name: value}
        try:
            source()
        except SettingsError:
            return name.upper()
    return f"{PREFIX}*"


def _refuse_unknown_variables(settings: Settings, origins: Origins) -> None:
    """A misspelt section is no field of ours, so pydantic would pass it over in silence."""
    secrets = {probe.api_key_env for probe in settings.probe} | {settings.metrics.token_env}
    secrets |= {server.api_key_env for server in settings.serving.server}
    secrets |= {target.api_key_env for target in settings.exporters.target}
    secrets |= {delivery.url_env for delivery in settings.summary.deliver}
    for name in sorted(set(origins.variables) - OTHER_VARIABLES - secrets):
        where = name.removeprefix(PREFIX).lower().split("__")
        if where[0] not in Settings.model_fields and not _SERVICE_LINK.search(name):
            raise ConfigError(f"environment {name}: {where[0]}: {unknown_key(where[:1], Settings)}")
