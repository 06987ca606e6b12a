"""Settings: defaults, precedence, one clear line for everything that is refused, and the example file."""

import os
import re
import tomllib
import traceback
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from core.errors import ConfigError
from core.prices import OwnedPrice, RentedPrice
from core.settings import SOURCE_NAMES, Settings, load

EXAMPLE = Path(__file__).parents[2] / "vatio.example.toml"
PROBE = '[[probe]]\nname = "x"\nurl = "http://a"\nmodel = "m"\n'


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.upper().startswith("VATIO_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "v.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def refusal(path=None):
    with pytest.raises(ConfigError) as caught:
        load(path)
    line = str(caught.value)
    assert "\n" not in line
    return line, "".join(traceback.format_exception(caught.value))


def test_nothing_needs_to_be_set():
    settings = load()
    assert settings.collectors.interval_seconds == 10
    assert settings.cost.hardware == ()
    assert settings.site.usd_per_kwh is None


def test_vatio_toml_is_found_and_the_variable_names_another(file, monkeypatch, tmp_path):
    (tmp_path / "vatio.toml").write_text('[site]\nname = "here"\n')
    assert load().site.name == "here"
    monkeypatch.setenv("VATIO_CONFIG", str(file('[site]\nname = "there"\n')))
    assert load().site.name == "there"


def test_environment_wins_over_the_file_key_by_key(file, monkeypatch):
    monkeypatch.setenv("VATIO_SITE__USD_PER_KWH", "0.12")
    monkeypatch.setenv("VATIO_SERVING__LOOPBACK_PORTS", "[8000]")
    monkeypatch.setenv("VATIO_COLLECTORS__INTERVAL_SECONDS", "2")
    settings = load(file('[site]\nname = "lab"\nusd_per_kwh = 0.3\n'))
    assert (settings.site.name, settings.site.usd_per_kwh) == ("lab", 0.12)
    assert settings.serving.loopback_ports == (8000,)
    assert settings.collectors.tick_deadline_seconds == 2, "a deadline nobody set follows the interval"


def test_the_price_of_hardware_is_read_by_its_kind(file):
    text = (
        '[[cost.hardware]]\nkind = "rented"\napplies_to = "accelerator"\nper_hour = 2.69\n'
        '[[cost.hardware]]\nkind = "owned"\napplies_to = "host"\ncapex = 9000\n'
    )
    rented, owned = load(file(text)).cost.hardware
    assert isinstance(rented, RentedPrice)
    assert isinstance(owned, OwnedPrice)
    assert owned.life_years == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[collectors]\ninterval = 5", "collectors.interval: unknown key; expected interval_seconds?"),
        ("[colectors]\n", "colectors: unknown key; expected collectors?"),
        ("zzz = 1", "zzz: unknown key; see vatio.example.toml"),
        ("[site]\nowned = 1", "site.owned: unknown key; see vatio.example.toml"),
        (
            '[collectors]\ninterval_seconds = "10s"',
            "collectors.interval_seconds: expected a plain number in the unit that the key names, got '10s'",
        ),
        ("[collectors]\ninterval_seconds = -1", "collectors.interval_seconds: expected at least 0.5, got -1"),
        ("[collectors]\ninterval_seconds = 301", "collectors.interval_seconds: expected at most 300, got 301"),
        ("[collectors]\ninterval_seconds = nan", "collectors.interval_seconds: expected at least 0.5, got nan"),
        ("[collectors]\ninterval_seconds = [1]", "collectors.interval_seconds: expected a number"),
        ("[cost]\noutput_weight_ratio = inf", "cost.output_weight_ratio: expected a finite number, got inf"),
        ("[cost]\noutput_weight_ratio = 0", "cost.output_weight_ratio: expected more than 0, got 0"),
        (
            "[collectors]\ninterval_seconds = 1\ndeadline_seconds = 3",
            "collectors: deadline_seconds = 3 exceeds interval_seconds = 1; expected deadline <= interval",
        ),
        ('[collectors]\nhost_name = ""', "collectors.host_name: expected at least 1 character"),
        ("[collectors]\nhost_name = 7", "collectors.host_name: expected text in quotes"),
        (
            '[site]\ntime_zone = "Mars"',
            "site.time_zone: expected an IANA time zone such as America/Santiago, got 'Mars'",
        ),
        ("[site]\npue_ratio = 0.5", "site.pue_ratio: expected at least 1, got 0.5"),
        ("site = 3", "site: expected a table of keys"),
        ("simulated = 7", "simulated: expected true or false, got 7"),
        ("[serving]\nloopback_ports = [0]", "serving.loopback_ports.0: expected at least 1, got 0"),
        ("[serving]\nloopback_ports = 8000", "serving.loopback_ports: expected a list"),
        ("[serving]\nmax_body_bytes = 2000.5", "serving.max_body_bytes: expected a whole number, got 2000.5"),
        (
            '[[cost.hardware]]\nkind = "leased"\napplies_to = "accelerator"',
            "cost.hardware.0.kind: expected kind = rented or owned",
        ),
        ('[[cost.hardware]]\napplies_to = "accelerator"', "cost.hardware.0.kind: expected kind = rented or owned"),
        (
            '[[cost.hardware]]\nkind = "rented"\napplies_to = "accelerator"',
            'cost.hardware.0.per_hour: expected a value (required when kind = "rented")',
        ),
        (
            '[[cost.hardware]]\nkind = "rented"\napplies_to = "host"\nper_hours = 2',
            "cost.hardware.0.per_hours: unknown key; expected per_hour? (and 1 more)",
        ),
        (
            '[[cost.hardware]]\nkind = "owned"\napplies_to = "rack"\ncapex = 1',
            "cost.hardware.0.applies_to: expected 'accelerator' or 'host', got 'rack'",
        ),
        (
            '[[cost.hardware]]\nkind = "owned"\napplies_to = "host"\ncapex = 1\nresidual = 2',
            "cost.hardware.0: expected residual <= capex",
        ),
        ('[probe]\nname = "x"', "probe: expected a list of tables: [[probe]] in TOML, JSON in VATIO_PROBE"),
        ('[[probe]]\nname = "x"\nmodel = "m"', "probe.0.url: expected a value"),
        (PROBE + PROBE, "probe: expected a different name in every [[probe]]"),
        (
            PROBE + "usd_per_million_input_tokens = 1",
            "probe.0: expected both usd_per_million_input_tokens and usd_per_million_output_tokens, or none",
        ),
        (
            PROBE + "usd_per_million_input_tokens = 1\nusd_per_million_output_tokens = 1",
            "probe.0: expected monthly_cap_usd, since this endpoint has a price",
        ),
        (
            PROBE + "monthly_cap_usd = 1",
            "probe.0: expected both prices beside monthly_cap_usd; without them spend cannot be counted",
        ),
        (
            PROBE + "interval_seconds = 5\ntimeout_seconds = 6",
            "probe.0: expected timeout_seconds <= interval_seconds",
        ),
    ],
)
def test_a_refusal_names_file_key_and_expectation(file, text, expected):
    path = file(text)
    line, _ = refusal(path)
    assert line == f"{path}: {expected}"


@pytest.mark.parametrize("name", [*SOURCE_NAMES])
def test_every_source_can_be_disabled(file, name):
    assert load(file(f'[collectors]\ndisabled = ["{name}"]')).collectors.disabled == (name,)


def test_a_source_that_does_not_exist_is_refused(file):
    line, _ = refusal(file('[collectors]\ndisabled = ["nvida"]'))
    assert line.endswith("got 'nvida'")
    assert all(name in line for name in SOURCE_NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[probe]]\nname = "x"\nmodel = "m"\nurl = "ftp://SECRET"', "expected http://host:port or https://..."),
        ('[[probe]]\nname = "x"\nmodel = "m"\nurl = "https://u:SECRET@host"', "without credentials or query"),
        ('[[probe]]\nname = "x"\nmodel = "m"\nurl = "https://host/v1?key=SECRET"', "without credentials or query"),
        ('[[probe]]\nname = "x"\nmodel = "m"\nurl = "https://host/v1\\nSECRET"', "without credentials or query"),
        ('[[probe]]\nname = "x"\nmodel = "m"\nurl = ["https://u:SECRET@host"]', "expected text in quotes"),
        (PROBE + 'api_key_env = "sk-SECRET"', "expected the NAME of an environment variable such as OPENAI_API_KEY"),
        (PROBE + 'api_key = "sk-SECRET"', "unknown key; expected api_key_env?"),
        ('probe = "sk-SECRET"', "expected a list of tables"),
        ('[serving]\nserver = ["http://u:SECRET@host"]', "expected a table of keys"),
        ('[[serving.server]]\nurl = "http://a"\napi_key_env = "sk-SECRET"', "expected the NAME"),
        ('[[serving.server]]\nurl = "http://a"\nmetrics_path = "m?key=SECRET"', "expected a path that begins with /"),
        ('[storage]\nurl = "postgresql://u:SECRET@host/db"', "expected sqlite:///path/to/file.db"),
        ('[storage]\nurl = "postgresql+psycopg://u:SECRET@host/db"', "expected no password in it: set PGPASSWORD"),
    ],
)
def test_what_may_be_a_secret_is_not_repeated_even_in_a_traceback(file, text, expected):
    line, trace = refusal(file(text))
    assert expected in line
    assert "SECRET" not in trace


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "VATIO_COLLECTORS__INTERVAL_SECONDS",
            "2s",
            "collectors.interval_seconds: expected a plain number in the unit that the key names, got '2s'",
        ),
        (
            "VATIO_COLLECTORS__INTERVL_SECONDS",
            "2",
            "collectors.intervl_seconds: unknown key; expected interval_seconds?",
        ),
        ("VATIO_COLECTORS__X", "SECRET", "colectors: unknown key; expected collectors?"),
        ("VATIO_TOKEN", "SECRET", "token: unknown key; see vatio.example.toml"),
        ("VATIO_SERVING__LOOPBACK_PORTS", "SECRET", 'expected JSON such as [1, 2] or {"key": 1}'),
        ("VATIO_PROBE", "SECRET", 'expected JSON such as [1, 2] or {"key": 1}'),
        ("VATIO_PROBE", '[{"name": "x"}]', "probe.0.url: expected a value (and 1 more)"),
        ("VATIO_SIMULATED", "perhaps", "simulated: expected true or false, got 'perhaps'"),
        ("VATIO_SITE__NAME__X", "SECRET", "site.name: expected text in quotes"),
        ("VATIO_SITE", '{"nam": "SECRET"}', "site.nam: unknown key; expected name?"),
    ],
)
def test_a_refusal_names_the_environment_variable_and_not_the_file(file, monkeypatch, name, value, expected):
    monkeypatch.setenv("VATIO_SITE__USD_PER_KWH", "0.1")
    monkeypatch.setenv(name, value)
    line, trace = refusal(file("[collectors]\nslow_interval_seconds = 30\n[serving]\ndiscover = false\n"))
    assert line == f"environment {name}: {expected}"
    assert "SECRET" not in trace


def test_where_file_and_environment_disagree_both_are_named(file, monkeypatch):
    monkeypatch.setenv("VATIO_COLLECTORS__INTERVAL_SECONDS", "1")
    path = file("[collectors]\ndeadline_seconds = 3")
    line, _ = refusal(path)
    assert line.startswith(f"{path} with environment VATIO_COLLECTORS__INTERVAL_SECONDS: collectors: ")


def test_a_mistake_in_the_file_is_not_blamed_on_another_variable(file, monkeypatch):
    monkeypatch.setenv("VATIO_COLLECTORS__INTERVAL_SECONDS", "10")
    path = file("[collectors]\nintervl_seconds = 3")
    assert refusal(path)[0].startswith(f"{path}: collectors.intervl_seconds: unknown key")


def test_variables_that_are_no_settings_are_left_alone(file, monkeypatch):
    for name in ("VATIO_SAMPLES", "VATIO_KEY", "VATIO_SERVER_KEY"):
        monkeypatch.setenv(name, "SECRET")
    for name in ("VATIO_PORT", "VATIO_SERVICE_HOST", "VATIO_WEB_SERVICE_PORT_HTTP", "VATIO_PORT_8501_TCP_ADDR"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8501")  # set by Kubernetes for a service called vatio
    server = '[[serving.server]]\nurl = "http://b"\napi_key_env = "VATIO_SERVER_KEY"\n'
    settings = load(file(PROBE + 'api_key_env = "VATIO_KEY"\n' + server))
    assert settings.probe[0].api_key_env == "VATIO_KEY"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a b", "expected TOML, see vatio.example.toml"),
        (b"\xff\xfe", "cannot be read (not UTF-8); expected a TOML file"),
        (None, "cannot be read (No such file or directory); expected a TOML file"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, content, expected):
    path = tmp_path / "named.toml"
    if content is not None:
        path.write_bytes(content)
    line, _ = refusal(path)
    assert line.startswith(f"{path}: ")
    assert line.endswith(expected)


# --- the example ------------------------------------------------------------------------------

SETTING = re.compile(r"^#(?=\[|\w+ = )", re.MULTILINE)


def uncommented():
    return SETTING.sub("", EXAMPLE.read_text("utf-8"))


ALTERNATIVES = {"usd_per_kwh", "tariff", "per_kwh", "band"}  # of which one excludes another


def by_model(section, table):
    """Every table of the example with the section of the settings that it fills."""
    yield type(section), table
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from by_model(value, table[name])
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for each, its_table in zip(value, table[name], strict=True):
                yield from by_model(each, its_table)


def sections_of_the_example():
    example = tomllib.loads(uncommented())
    return list(by_model(Settings(**example), example))


def test_a_copy_of_the_example_changes_nothing():
    assert load(EXAMPLE) == load()


def test_the_example_loads_with_every_key_set(file):
    settings = load(file(uncommented()))
    assert {type(price) for price in settings.cost.hardware} == {RentedPrice, OwnedPrice}


def test_example_and_settings_have_the_same_keys():
    sections = sections_of_the_example()
    assert len(sections) >= 20
    for model, table in sections:
        assert set(model.model_fields) - set(table) <= ALTERNATIVES, model.__name__
    assert set().union(*(table for _, table in sections)) >= ALTERNATIVES


def test_the_example_shows_the_defaults():
    # Differs per machine; an empty match would show nothing; a choice shows one side.
    varying = {"host_name", "match"} | ALTERNATIVES
    for model, table in sections_of_the_example():
        for key, field in model.model_fields.items():
            default = field.get_default()
            if default in (None, PydanticUndefined) or key in varying or isinstance(default, BaseModel):
                continue
            if isinstance(table[key], list) and table[key] and isinstance(table[key][0], dict):
                continue  # blocks are examples
            shown = tuple(table[key]) if isinstance(table[key], list) else table[key]
            assert str(shown) == str(default), f"{model.__name__}.{key}"


def test_every_key_of_the_example_is_explained():
    keys = [line for line in EXAMPLE.read_text("utf-8").splitlines() if re.match(r"#?\w+ = ", line)]
    assert len(keys) > 40
    assert [line for line in keys if not re.search(r"  ?# \S", line)] == []


@pytest.mark.parametrize(
    "url", ["http://localhost:notaport", "http://localhost:99999", "http://[::1:8000", "http://:80"]
)
def test_an_address_with_an_impossible_port_is_refused(url: str, tmp_path: Path) -> None:
    file = tmp_path / "vatio.toml"
    file.write_text(f'[[serving.server]]\nurl = "{url}"\n')
    with pytest.raises(ConfigError, match=r"serving\.server\.0\.url: expected http://host:port"):
        load(file)


@pytest.mark.parametrize("setting", ["usd_per_kwh = true", "pue_ratio = true"])
def test_true_is_not_a_number(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "vatio.toml"
    file.write_text(f"[site]\n{setting}\n")
    with pytest.raises(ConfigError, match="expected a plain number"):
        load(file)
