"""The files in ``deploy/``: what they name exists, and the programs they are for take them."""

import base64
import configparser
import contextlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.daemon import ROOT, settings_file, until
from tests.e2e.dashboard import CHROMIUM, Visit, chromium, free_port, serving

DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
INSTALLED = "/opt/vatio"
NGINX = shutil.which("nginx") or next((found for found in ("/usr/sbin/nginx",) if Path(found).exists()), None)


def without(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program} here")


def runs(arguments: list[str]) -> bool:
    """Whether ``-m MODULE`` is ours or installed, and a script beside it is there."""
    module, *rest = arguments[arguments.index("-m") + 1 :]
    scripts = [word for word in rest if word.endswith(".py")]
    return importlib.util.find_spec(module) is not None and all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_what_there_is(unit):
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.read(unit)
    service = parsed["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program == f"{INSTALLED}/.venv/bin/python"
    assert service["WorkingDirectory"] == INSTALLED
    assert runs(arguments)


@without("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_a_unit(unit, tmp_path):
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace(f"{INSTALLED}/.venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_images_hold_all_that_is_imported():
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    copied = set(re.findall(r"^COPY (\S+)", text, re.MULTILINE))
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    assert {*packages, "app.py", ".streamlit", "locales", "requirements.txt"} == copied
    commands = re.findall(r"^CMD \[(.+)\]$", text, re.MULTILINE)
    assert len(commands) == 2
    assert all(runs(command.replace('"', "").split(", ")) for command in commands)


def test_the_guide_names_every_file():
    guide = (ROOT / "docs/install.md").read_text()
    assert [file.name for file in DEPLOY.iterdir() if file.name not in guide] == []


@without("caddy")
def test_caddy_takes_its_file(monkeypatch):
    monkeypatch.setenv("VATIO_WEB_USER", "ana")
    monkeypatch.setenv("VATIO_WEB_PASSWORD_HASH", base64.b64encode(b"$2a$14$" + b"a" * 53).decode())
    command = ["caddy", "adapt", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile", "--validate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait(15)


def answers(url: str, *, password: str = "") -> int:
    request = urllib.request.Request(url)
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"ana:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def nginx_files(folder: Path, dashboard: int) -> tuple[Path, int]:
    """nginx's settings around ours, which get ports of this test and no TLS."""
    port = free_port()
    site = (DEPLOY / "nginx.conf").read_text()
    site = re.sub(r"listen (\[::\]:)?443 .*;", "", site).replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
    site = site.replace("listen [::]:80;", "").replace("    ssl_certificate ", f"    listen 127.0.0.1:{port}; #")
    site = site.replace("    ssl_certificate_key ", "    #").replace(":8501", f":{dashboard}")
    site = site.replace("/etc/nginx/vatio.htpasswd", str(folder / "htpasswd"))
    (folder / "htpasswd").write_text("ana:{PLAIN}secret\n")
    paths = "".join(f"{kind}_temp_path {folder}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    alone = f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}"
    file = folder / "nginx.conf"
    file.write_text(f"{alone} http {{ access_log off; {paths}{site} }}")
    return file, port


@pytest.mark.browser
@pytest.mark.skipif(NGINX is None or CHROMIUM is None, reason="no nginx or no Chromium here")
@pytest.mark.xdist_group("network")
def test_the_dashboard_works_below_a_path_behind_nginx(tmp_path, monkeypatch):
    dashboard = free_port()
    file, port = nginx_files(tmp_path, dashboard)
    monkeypatch.setenv("VATIO_CONFIG", str(settings_file(tmp_path)))
    monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", "vatio")
    monkeypatch.setenv("STREAMLIT_SERVER_ALLOWED_HOSTS", "127.0.0.1")
    web = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(dashboard)]
    health = f"http://127.0.0.1:{port}/vatio/_stcore/health"
    with started(web, tmp_path / "web.log"), started([str(NGINX), "-c", str(file)], tmp_path / "nginx.log"):
        assert until(lambda: answers(health, password="secret") == 200, 60), (tmp_path / "nginx.log").read_text()
        assert answers(health) == 401
        with chromium() as browser:
            seen = Visit(browser.new_page(http_credentials={"username": "ana", "password": "secret"}))
            seen.page.on("console", seen.hear)
            seen.page.goto(f"http://127.0.0.1:{port}/")
            seen.settle()
            assert seen.page.url.endswith("/vatio/")
            seen.page.get_by_role("link", name="Hosts").first.click()
            seen.page.wait_for_url(f"http://127.0.0.1:{port}/vatio/hosts")
            seen.settle()
            assert seen.complaints == []


def test_the_dashboard_reads_requests_with_compiled_code(tmp_path: Path):
    """uvicorn takes both where they are installed, and says nothing where not; a first visit asks for 140 files."""
    with serving(settings_file(tmp_path)):
        (server,) = (one for one in psutil.Process().children() if "streamlit" in one.cmdline())
        loaded = " ".join(one.path for one in server.memory_maps())
    assert "/httptools/" in loaded
    assert "/uvloop/" in loaded
