"""`health`, run against real servers: which address it asks, how, and what it makes of the answer."""

import socket
from pathlib import Path

import bcrypt
import pytest
import trustme
import yaml
from command_line import CommandLine, Finished
from running import free_port
from serving import Certificates, FakeExporter, served, write_web_file
from starlette.applications import Starlette

from exporter.commands import health_check
from exporter.config.web_settings import WebConfig
from exporter.logs import configure_logs
from exporter.web.server import make_app


class Run(CommandLine):
    """The program in an empty directory, with an account in its environment."""

    def health(self, *flags: str, before: str = "", **environ: str) -> Finished:
        return self(*before.split(), "health", *flags, DATAROBOT_API_TOKEN="obviously-fake-token", **environ)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    configure_logs("error", "logfmt")
    return Run(monkeypatch, capsys)


def configure(**web: object) -> None:
    Path("config.yaml").write_text(yaml.safe_dump({"web": web}))


def test_the_address_is_that_of_flag_variable_or_file(run: Run) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with served() as port:
        address = f"127.0.0.1:{port}"
        variable = {"DATAROBOT_EXPORTER_WEB_LISTEN_ADDRESS": address}
        configure(listen_address=address)
        status, out, err = run.health()
        assert (status, err) == (0, "")
        assert out.startswith(f"http://{address}: Healthy: ")
        Path("config.yaml").rename("other.yaml")
        assert run.health(before="--config.file=other.yaml")[0] == 0
        configure(listen_address=nobody)
        assert run.health(**variable)[0] == 0
        assert run.health(before=f"--web.listen-address={address}")[0] == 0
        found = run.health(before=f"--web.listen-address={nobody}", **variable)
        assert found == (1, "", f"http://{nobody}: cannot connect: Connection refused\n")


@pytest.mark.parametrize(
    ("listen", "asked"), [(":1", "127.0.0.1:1"), ("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1")]
)
def test_of_all_interfaces_loopback_is_asked(run: Run, listen: str, asked: str) -> None:
    status, _, err = run.health(before=f"--web.listen-address={listen}")
    assert status == 1
    assert err.startswith(f"http://{asked}: cannot connect: ")


def test_urls_can_be_given(run: Run) -> None:
    """Several of them, without a valid configuration; one that fails is enough to fail."""
    with served() as one, served() as other:
        urls = [f"--url=http://localhost:{one}/", f"--url=http://127.0.0.1:{other}"]
        status, out, _ = run.health(*urls, before="--config.file=missing.yaml")
        failed = run.health(*urls, "--url=http://127.0.0.1:1")
    assert status == 0
    assert [line.partition(" ")[0] for line in out.splitlines()] == [
        f"http://localhost:{one}:",
        f"http://127.0.0.1:{other}:",
    ]
    assert failed == (1, out, "http://127.0.0.1:1: cannot connect: Connection refused\n")


@pytest.mark.parametrize(
    "url", ["localhost:10072", "ftp://localhost", "http://", "http://h:port", "http://["]
)
def test_a_url_must_be_valid(run: Run, url: str) -> None:
    status, _, err = run.health(f"--url={url}")
    assert status == 2
    assert f"'{url}' is not a valid URL; expected one such as http://localhost:10072" in err


@pytest.mark.parametrize(
    ("web", "error"),
    [
        ({"listen_address": "h:0"}, "web.listen_address: the port is 0; expected a fixed port, or --url\n"),
        ({"listen_adress": ":1", "telemetrie_path": "/metrics"}, "config.yaml:2: web: "),
    ],
)
def test_without_a_valid_configuration_the_address_is_unknown(
    run: Run, web: dict[str, object], error: str
) -> None:
    """1 and one sentence: Docker reserves 2."""
    configure(**web)
    status, out, err = run.health()
    assert (status, out) == (1, "")
    assert err.startswith(f"the configuration is invalid: {error}")
    assert err.count("\n") == 1


def test_accounts_whose_polls_hang_are_named(run: Run) -> None:
    subject = FakeExporter()
    subject.stalled_accounts = ["production"]
    with served(make_app(subject, telemetry_path="/metrics")) as port:
        status, out, err = run.health(f"--url=http://127.0.0.1:{port}")
        assert (status, out) == (1, "")
        assert err.startswith(f"http://127.0.0.1:{port}: ")
        assert err.endswith(": production.\n")
        assert run.health(f"--url=http://127.0.0.1:{port}", "--ready")[0] == 0


def test_readiness_is_awaited(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is polled between the second and the third question."""
    monkeypatch.setattr(health_check, "_RETRY_SECONDS", 0.0)
    subject = FakeExporter()
    answers = [["production"], ["production"], []]
    monkeypatch.setattr(subject, "pending", lambda: answers.pop(0))
    with served(make_app(subject, telemetry_path="/metrics")) as port:
        flags = ("--ready", f"--url=http://127.0.0.1:{port}")
        assert run.health(*flags)[2].endswith(": production.\n")
        status, out, _ = run.health(*flags, "--wait=30s")
    assert (status, answers) == (0, [])
    assert out.startswith(f"http://127.0.0.1:{port}: Ready: ")


def test_another_program_is_not_healthy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one that does not answer in time."""
    with served(Starlette()) as port:
        url = f"http://127.0.0.1:{port}"
        error = f"{url}: unexpected status 404; expected the exporter at this address\n"
        assert run.health(f"--url={url}") == (1, "", error)
    monkeypatch.setattr(health_check, "_TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _, _, err = run.health(f"--url=http://127.0.0.1:{silent.getsockname()[1]}")
    assert err.endswith(": no answer: timed out\n")


@pytest.mark.parametrize(
    ("tls", "client_ca", "answer"),
    [
        (False, None, "http://{}: Healthy: "),
        (True, None, "https://{}: Healthy: "),
        # The exporter's own certificate is sent. If that is refused, TLS alone is checked.
        (True, "ca.pem", "https://{}: Healthy: "),
        (True, "clients.pem", "https://{}: TLS works;"),
    ],
)
def test_the_web_configuration_file_is_respected(
    run: Run, tmp_path: Path, client_ca: str | None, answer: str, *, tls: bool
) -> None:
    """No trust and no password is needed."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    files: dict[str, object] = {**Certificates(tmp_path).files} if tls else {}
    if client_ca:
        files |= {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": client_ca}
    password = bcrypt.hashpw(b"obviously-fake-password", bcrypt.gensalt(4)).decode()
    web = write_web_file(tmp_path / "web.yml", tls=files, users={} if client_ca else {"prometheus": password})
    with served(web_config=WebConfig(web)) as port:
        address = f"127.0.0.1:{port}"
        configure(listen_address=address, config_file="web.yml")
        status, out, _ = run.health()
        assert status == 0
        assert out.startswith(answer.format(address))
        wrong = "http" if tls else "https"
        status, _, err = run.health(f"--url={wrong}://{address}")
        assert status == 1
        assert (": no answer: " if tls else ": cannot connect: ") in err
    assert run.health()[0] == 1
