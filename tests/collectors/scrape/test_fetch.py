from __future__ import annotations

import shutil
import ssl
import subprocess
import time
import tracemalloc

import pytest

from collectors.scrape.fetch import Answer, Failure, Fetcher, Request
from core.errors import CollectorError
from tests.fixtures.metrics_server import HOSTILE, SLOW, MetricsServer

MIB = 1 << 20
KEY = "sk-very-secret-0123456789"
REASONS = {
    "declares 200 MB": "body exceeds 16 MiB",
    "200 MB": "body exceeds 16 MiB",
    "endless": "body exceeds 16 MiB",
    "trickle body": "no complete answer within 0.6 s",
    "trickle headers": "no complete answer within 0.6 s",
    "silent": "no complete answer within 0.6 s",
    "endless headers": "not a valid HTTP answer, or broken off",
    "hangs up": "not a valid HTTP answer, or broken off",
    "echo": "not a valid HTTP answer, or broken off",
    "500": "HTTP 500",
    "redirect loop": "more than 3 redirects",
    "redirect elsewhere": "redirects to another host",
    "gzip bomb": "the body is compressed although plain text was asked for",
}


@pytest.fixture(scope="module")
def fetcher():
    """One for all tests, as in a daemon: nothing a server did may leave a trace."""
    fetcher = Fetcher(deadline_seconds=5, max_body_bytes=16 * MIB)
    yield fetcher
    fetcher.close()
    fetcher.close()


@pytest.fixture
def server():
    with MetricsServer("a 1\n") as server:
        yield server


def only(fetcher: Fetcher, request: Request) -> Answer | Failure:
    (answer,) = fetcher.fetch_all([request])
    return answer


@pytest.mark.parametrize("mode", REASONS)
def test_what_a_hostile_server_costs_is_one_failure_of_its_own(fetcher, server, mode):
    with MetricsServer("good 1\n") as other:
        server.mode = mode
        requests = [Request(f"{server.url}/metrics"), Request(f"{other.url}/metrics")]
        began = time.perf_counter()
        bad, good = fetcher.fetch_all(requests, 0.6 if mode in SLOW else None)
        assert time.perf_counter() - began < 4
        assert isinstance(bad, Failure)
        assert bad.reason == REASONS[mode]
        assert isinstance(good, Answer)
        assert good.body == b"good 1\n"
        server.mode = ""
        after, _ = fetcher.fetch_all(requests)
        assert isinstance(after, Answer)


def test_memory_stays_bounded(fetcher):
    """12 servers that send without end: at most 4 bodies of 16 MiB are held at once, and 12 beginnings of 1."""
    servers = [MetricsServer("") for _ in range(12)]
    for server in servers:
        server.start()
        server.mode = "endless"
    tracemalloc.start()
    answers = fetcher.fetch_all([Request(f"{server.url}/metrics") for server in servers])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for server in servers:
        server.stop()
    assert all(isinstance(answer, Failure) for answer in answers)
    assert peak < 110 * MIB  # 12 whole bodies would be 192 MiB


def test_a_closed_port(fetcher, server):
    server.stop()
    answer = only(fetcher, Request(f"{server.url}/metrics"))
    assert isinstance(answer, Failure)
    assert answer.reason == "nothing listens there (connection refused)"


@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid/metrics", "http://a b/", "ftp://127.0.0.1/", "http://:0/"]
)
def test_impossible_addresses_are_failures(fetcher, url):
    answer = only(fetcher, Request(url))
    assert isinstance(answer, Failure)
    assert "\n" not in answer.reason


def test_hundreds_at_once(fetcher, server):
    with MetricsServer("") as slow:
        slow.mode = "silent"
        requests = [Request(f"{(slow if n % 4 == 0 else server).url}/metrics") for n in range(120)]
        began = time.perf_counter()
        answers = fetcher.fetch_all(requests, 2.0)
        assert time.perf_counter() - began < 4  # 30 that hang for 2 s each hang together
    assert [isinstance(answer, Answer) for answer in answers] == [n % 4 != 0 for n in range(120)]


def test_connections_are_kept_and_renewed(fetcher, server):
    request = Request(f"{server.url}/metrics")
    assert isinstance(only(fetcher, request), Answer)
    server.stop()
    server.start()
    assert isinstance(only(fetcher, request), Answer)
    server.mode = "hangs up once"
    assert isinstance(only(fetcher, request), Answer)


def test_redirects_within_the_server_are_followed_with_the_key(fetcher, server, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    server.pages["/metrics/"] = "here 1\n"
    server.mode = "redirect within"
    answer = only(fetcher, Request(f"{server.url}/metrics", "SERVER_KEY"))
    assert isinstance(answer, Answer)
    assert answer.body == b"here 1\n"
    assert [headers["Authorization"] for _, headers in server.asked] == [f"Bearer {KEY}"] * 2


def test_what_is_sent(fetcher, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.headers = {"Set-Cookie": "seen=1"}
    for _ in range(2):
        assert isinstance(only(fetcher, Request(f"{server.url}/metrics")), Answer)
    for _, headers in server.asked:
        assert headers["Accept-Encoding"] == "identity"
        assert "Authorization" not in headers
        assert "Cookie" not in headers


@pytest.mark.parametrize("mode", HOSTILE)
def test_the_key_is_in_no_reason(fetcher, server, monkeypatch, mode):
    monkeypatch.setenv("SERVER_KEY", KEY)
    server.mode = mode
    (answer,) = fetcher.fetch_all([Request(f"{server.url}/metrics", "SERVER_KEY")], 0.3 if mode in SLOW else None)
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"
    assert isinstance(answer, Answer) or KEY not in repr(answer)


def test_a_refused_key_is_named_by_its_variable(fetcher, server, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    server.mode = "401"
    with_key, without = fetcher.fetch_all(
        [Request(f"{server.url}/metrics", "SERVER_KEY"), Request(f"{server.url}/metrics")]
    )
    assert isinstance(with_key, Failure)
    assert with_key.reason == "HTTP 401: the key in SERVER_KEY is refused"
    assert isinstance(without, Failure)
    assert without.reason == "HTTP 401: needs a key, set api_key_env"


@pytest.mark.parametrize("key", ["", "  ", "two\nlines" + KEY, "é" + KEY])
def test_an_unusable_key_is_not_sent(fetcher, server, monkeypatch, key):
    monkeypatch.setenv("SERVER_KEY", key)
    answer = only(fetcher, Request(f"{server.url}/metrics", "SERVER_KEY"))
    assert isinstance(answer, Failure)
    assert "SERVER_KEY" in answer.reason
    assert KEY not in answer.reason
    assert server.asked == []


def test_keep_may_shorten_and_refuse(fetcher, server):
    def refuse(body: bytes) -> bytes:
        raise CollectorError(f"{len(body)} bytes are not wanted")

    url = f"{server.url}/metrics"
    short, refused = fetcher.fetch_all([Request(url, keep=lambda body: body[:1]), Request(url, keep=refuse)])
    assert isinstance(short, Answer)
    assert short.body == b"a"
    assert isinstance(refused, Failure)
    assert refused.reason == "4 bytes are not wanted"


@pytest.fixture
def certificate(tmp_path):
    """Its own authority, for 127.0.0.1: the certificate's file and a server's context with it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    file, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    names = ["-keyout", key, "-out", file, "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *names]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


@pytest.mark.parametrize("trusted", [False, True])
def test_only_certificates_that_the_machine_trusts_are_accepted(certificate, monkeypatch, trusted):
    file, context = certificate
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", file)
    fetcher = Fetcher(deadline_seconds=10, max_body_bytes=MIB)
    with MetricsServer("a 1\n", tls=context) as secure:
        answer = only(fetcher, Request(f"https://127.0.0.1:{secure.port}/metrics"))
        fetcher.close()
    if trusted:
        assert isinstance(answer, Answer)
    else:
        assert isinstance(answer, Failure)
        assert answer.reason.startswith("TLS certificate refused: ")
