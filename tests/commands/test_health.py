"""`health`, run against real servers: which address it asks, how, and what it makes of the answer."""

import socket
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
import trustme
import yaml
from click.testing import CliRunner, Result
from running import free_port
from serving import Certificates, FakeExporter, served, write_web_file
from starlette.applications import Starlette

from exporter import cli
from exporter.commands import health_check
from exporter.config.web_settings import WebConfig
from exporter.logs import configure_logs
from exporter.web.server import make_app


Run = Callable[..., Result]

HASH = bcrypt.hashpw(b"obviously-fake-password", bcrypt.gensalt(4)).decode()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the program in an empty directory, with an account in its environment."""
    monkeypatch.chdir(tmp_path)
    configure_logs("error", "logfmt")

    def invoke(*arguments: str, **environ: str) -> Result:
        account = {
            "DATAROBOT_API_TOKEN": "obviously-fake-token",
            "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2",
        }
        return CliRunner().invoke(
            cli.command_line, arguments, env={**account, **environ}, catch_exceptions=False
        )

    return invoke


def configure(directory: Path, **web: object) -> None:
    (directory / "config.yaml").write_text(yaml.safe_dump({"web": web}))


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


@pytest.fixture
def subject() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
def app(subject: FakeExporter) -> Starlette:
    return make_app(subject, telemetry_path="/metrics")


class TestAddress:
    def test_is_that_of_the_file(self, run: Run, tmp_path: Path) -> None:
        with served() as port:
            configure(tmp_path, listen_address=address(port))
            found = run("health")
        assert (found.exit_code, found.stderr) == (0, "")
        assert found.stdout.startswith(f"http://127.0.0.1:{port}: Healthy: ")

    def test_is_overridden_by_variable_and_flag(self, run: Run, tmp_path: Path) -> None:
        nobody = address(free_port())
        with served() as port:
            variable = {"DATAROBOT_EXPORTER_WEB_LISTEN_ADDRESS": address(port)}
            configure(tmp_path, listen_address=nobody)
            assert run("health", **variable).exit_code == 0
            assert run(f"--web.listen-address={nobody}", "health", **variable).exit_code == 1
            assert run(f"--web.listen-address={address(port)}", "health").exit_code == 0

    def test_is_that_of_a_named_file(self, run: Run, tmp_path: Path) -> None:
        with served() as port:
            configure(tmp_path, listen_address=address(port))
            (tmp_path / "config.yaml").rename(tmp_path / "other.yaml")
            assert run("--config.file=other.yaml", "health").exit_code == 0

    def test_needs_no_file(self, run: Run) -> None:
        found = run("--web.listen-address=127.0.0.1:1", "health")
        assert (found.exit_code, found.stderr) == (
            1,
            "http://127.0.0.1:1: cannot connect: Connection refused\n",
        )

    @pytest.mark.parametrize(
        ("listen", "asked"), [(":1", "127.0.0.1:1"), ("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1")]
    )
    def test_of_all_interfaces_is_loopback(self, run: Run, listen: str, asked: str) -> None:
        found = run(f"--web.listen-address={listen}", "health")
        assert found.exit_code == 1
        assert found.stderr.startswith(f"http://{asked}: cannot connect: ")

    def test_can_be_given(self, run: Run) -> None:
        """Several of them, without a valid configuration; one that fails is enough to fail."""
        with served() as one, served() as other:
            urls = [f"--url=http://localhost:{one}/", f"--url=http://127.0.0.1:{other}"]
            found = run("--config.file=missing.yaml", "health", *urls)
            failed = run("health", *urls, "--url=http://127.0.0.1:1")
        first, second = found.stdout.splitlines()
        assert (found.exit_code, first.partition(" ")[0], second.partition(" ")[0]) == (
            0,
            f"http://localhost:{one}:",
            f"http://127.0.0.1:{other}:",
        )
        assert (failed.exit_code, failed.stdout) == (1, found.stdout)
        assert failed.stderr == "http://127.0.0.1:1: cannot connect: Connection refused\n"

    @pytest.mark.parametrize(
        "url", ["localhost:10072", "ftp://localhost", "http://", "http://h:port", "http://["]
    )
    def test_must_be_valid(self, run: Run, url: str) -> None:
        found = run("health", f"--url={url}")
        assert found.exit_code == 2
        assert f"'{url}' is not a valid URL; expected one such as http://localhost:10072" in found.stderr

    def test_cannot_be_found_if_the_system_chooses_it(self, run: Run) -> None:
        found = run("--web.listen-address=127.0.0.1:0", "health")
        assert found.exit_code == 1
        assert found.stderr.endswith(": web.listen_address: the port is 0; expected a fixed port, or --url\n")

    def test_is_unknown_without_a_valid_configuration(self, run: Run, tmp_path: Path) -> None:
        """1 and one sentence: Docker reserves 2."""
        configure(tmp_path, listen_adress=":1", telemetrie_path="/metrics")
        found = run("health")
        assert found.exit_code == 1
        assert found.stderr.startswith("the configuration is invalid: config.yaml:2: web: ")
        assert found.stderr.count("\n") == 1


class TestAnswer:
    def test_names_the_accounts_whose_polls_hang(
        self, run: Run, subject: FakeExporter, app: Starlette
    ) -> None:
        subject.stalled_accounts = ["production"]
        with served(app) as port:
            found = run(f"--web.listen-address={address(port)}", "health")
            ready = run(f"--web.listen-address={address(port)}", "health", "--ready")
        assert (found.exit_code, found.stdout) == (1, "")
        assert found.stderr.startswith(f"http://127.0.0.1:{port}: ")
        assert found.stderr.endswith(": production.\n")
        assert ready.exit_code == 0

    def test_is_awaited(
        self, run: Run, subject: FakeExporter, app: Starlette, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The account is polled between the second and the third question."""
        monkeypatch.setattr(health_check, "_RETRY_SECONDS", 0.0)
        answers = [["production"], ["production"], []]
        monkeypatch.setattr(subject, "pending", lambda: answers.pop(0))
        with served(app) as port:
            flags = (f"--web.listen-address={address(port)}", "health", "--ready")
            early = run(*flags)
            late = run(*flags, "--wait=30s")
        assert (early.exit_code, late.exit_code, answers) == (1, 0, [])
        assert early.stderr.endswith(": production.\n")
        assert late.stdout.startswith(f"http://127.0.0.1:{port}: Ready: ")

    def test_of_another_program_is_not_healthy(self, run: Run) -> None:
        with served(Starlette()) as port:
            found = run(f"--web.listen-address={address(port)}", "health")
        assert (found.exit_code, found.stderr) == (
            1,
            f"http://127.0.0.1:{port}: unexpected status 404; expected the exporter at this address\n",
        )

    def test_must_come_in_time(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health_check, "_TIMEOUT_SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            found = run(f"--web.listen-address={address(silent.getsockname()[1])}", "health")
        assert found.exit_code == 1
        assert found.stderr.endswith(": no answer: timed out\n")


class TestTls:
    def test_needs_no_trust_and_no_password(self, run: Run, tmp_path: Path) -> None:
        web = write_web_file(
            tmp_path / "web.yml", tls=Certificates(tmp_path).files, users={"prometheus": HASH}
        )
        with served(web_config=WebConfig(web)) as port:
            configure(tmp_path, listen_address=address(port), config_file="web.yml")
            found = run("health")
            plain = run("health", f"--url=http://127.0.0.1:{port}")
        assert found.exit_code == 0
        assert found.stdout.startswith(f"https://127.0.0.1:{port}: Healthy: ")
        assert plain.exit_code == 1
        assert ": no answer: " in plain.stderr

    def test_is_not_used_with_a_password_only(self, run: Run, tmp_path: Path) -> None:
        web = write_web_file(tmp_path / "web.yml", users={"prometheus": HASH})
        with served(web_config=WebConfig(web)) as port:
            flags = (f"--web.listen-address={address(port)}", f"--web.config.file={web}")
            assert run(*flags, "health").stdout.startswith(f"http://127.0.0.1:{port}: Healthy: ")

    def test_cannot_be_used_with_a_server_that_has_none(self, run: Run) -> None:
        with served() as port:
            found = run("health", f"--url=https://127.0.0.1:{port}")
        assert found.exit_code == 1
        assert ": cannot connect: " in found.stderr

    def test_sends_the_exporters_certificate_if_one_is_required(self, run: Run, tmp_path: Path) -> None:
        """Where one CA issues the certificates of servers and clients, that is enough."""
        required = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
        web = write_web_file(tmp_path / "web.yml", tls={**Certificates(tmp_path).files, **required})
        with served(web_config=WebConfig(web)) as port:
            configure(tmp_path, listen_address=address(port), config_file="web.yml")
            found = run("health")
        assert found.exit_code == 0
        assert found.stdout.startswith(f"https://127.0.0.1:{port}: Healthy: ")

    def test_alone_is_checked_if_that_is_refused(self, run: Run, tmp_path: Path) -> None:
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "clients.pem"))
        required = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "clients.pem"}
        web = write_web_file(tmp_path / "web.yml", tls={**Certificates(tmp_path).files, **required})
        with served(web_config=WebConfig(web)) as port:
            configure(tmp_path, listen_address=address(port), config_file="web.yml")
            found = run("health")
        gone = run("health")
        assert (found.exit_code, found.stdout.partition(";")[0]) == (
            0,
            f"https://127.0.0.1:{port}: TLS works",
        )
        assert gone.exit_code == 1
