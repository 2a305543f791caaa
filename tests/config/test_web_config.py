"""The web configuration: who is let in and how, read again when it changes, and never lost by an error."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import bcrypt
import pytest
import requests
from conftest import DEADLINE_SECONDS
from cryptography import x509
from serving import Certificates, basic, served, write_web_file
from structlog.testing import capture_logs

from exporter import config
from exporter.config.web_file import TlsServer, WebFile, read_web_file
from exporter.config.web_settings import WebConfig
from exporter.errors import ConfigError
from exporter.web.authentication import PasswordChecker, _dummy_hash, _matches


FILES = Path(__file__).parent
PASSWORD = "obviously-fake-password"
PAIR = "cert_file: cert.pem, key_file: key.pem"
REQUIRED = "RequireAndVerifyClientCert"
IF_GIVEN = "client_auth_type: VerifyClientCertIfGiven"


def hashed(password: str, *, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yaml"


def errors(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read_web_file(path)
    return caught.value.errors


# What the file says


def test_all_that_is_supported_is_read(file: Path, certificates: Certificates, tmp_path: Path) -> None:
    tls = {"client_auth_type": REQUIRED, "client_ca_file": "ca.pem", "min_version": "TLS13"}
    users = {"prometheus": hashed(PASSWORD)}
    headers = {"X-Frame-Options": "deny", "Strict-Transport-Security": ""}
    write_web_file(file, tls={**certificates.files, **tls}, users=users, headers=headers)
    found = read_web_file(file)
    paths = {key: str(tmp_path / name) for key, name in certificates.files.items()}
    server = TlsServer.model_validate({**tls, **paths, "client_ca_file": certificates.authority})
    assert found == WebFile(tls=server, headers={"X-Frame-Options": "deny"}, users=users)
    assert users["prometheus"] not in repr(found)


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("# nothing", {}),
        ("basic_auth_users:\ntls_server_config: {cert_file: '', client_ca_file: , min_version: TLS13}", {}),
        (
            "http_server_config: {headers: {X-Frame-Options: '', X-XSS-Protection: True}}",
            {"X-XSS-Protection": "True"},
        ),
    ],
)
def test_what_the_exporter_toolkit_accepts_is_accepted(
    file: Path, text: str, headers: dict[str, str]
) -> None:
    """Numbers and truth values as text, and empty text for what is not set."""
    file.write_text(text)
    assert read_web_file(file) == WebFile(headers=headers)


def test_all_errors_of_a_file_are_reported_with_place_and_expectation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(FILES)
    assert [*errors(Path("web-invalid.yaml")), ""] == Path("web-invalid.txt").read_text().split("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client_auth_type: NoClientCert", "cert_file: is missing; expected the path of a PEM file"),
        ("cert_file: cert.pem", "key_file: is missing; expected the path of a PEM file"),
        ("key_file: none.pem", "key_file: '{}/none.pem' does not exist; expected an existing file"),
        ("cert_file: key.pem, key_file: key.pem", "cert_file: {}/key.pem cannot be used (no certificate"),
        (
            "cert_file: cert.pem, key_file: client.key",
            "key_file: {}/client.key is not the key of {}/cert.pem",
        ),
        (f"{PAIR}, client_auth_type: {REQUIRED}", f"client_auth_type: '{REQUIRED}' needs client_ca_file; "),
        (f"{PAIR}, client_ca_file: ca.pem", "client_ca_file: no client is verified with it; expected"),
        (f"{PAIR}, client_ca_file: key.pem, {IF_GIVEN}", "client_ca_file: {}/key.pem cannot be used"),
    ],
)
@pytest.mark.usefixtures("certificates")
def test_certificates_are_read_and_keys_must_agree(
    file: Path, tmp_path: Path, text: str, expected: str
) -> None:
    file.write_text(f"tls_server_config: {{{text}}}\n")
    start = f"{file}:1: tls_server_config.{expected.replace('{}', str(tmp_path))}"
    assert any(error.startswith(start) for error in errors(file))


def test_the_check_of_the_configuration_reads_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All errors of both files at once. A path starts from the directory of its file, that of a flag from
    where the exporter was started."""
    file.write_text("basic_auth_users: {prometheus: obviously-fake-password}\n")
    main = tmp_path / "config.yaml"
    main.write_text("web: {config_file: web.yaml}\nlog: {level: loud}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(main, {"DATAROBOT_API_TOKEN": "fake-token"}, {})
    first, second = caught.value.errors
    assert first == f"{main}:2: log.level: 'loud' is not valid; expected debug, info, warning or error"
    assert second.startswith(
        f"{file}:1: basic_auth_users.prometheus: the value is not a bcrypt hash; expected "
    )
    assert PASSWORD not in second
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    Path("web.yaml").touch()
    main.write_text("{}\n")
    overrides = {"web.config_file": "web.yaml"}
    loaded = config.load(main, {"DATAROBOT_API_TOKEN": "fake-token"}, overrides)
    assert loaded.web.config_file == str(elsewhere / "web.yaml")


# TLS


def presented(port: int, context: ssl.SSLContext) -> int:
    """Serial number of the certificate that the server shows."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
    ):
        certificate = tls.getpeercert(binary_form=True)
        assert certificate is not None
        return x509.load_der_x509_certificate(certificate).serial_number


def status(port: int, certificates: Certificates, path: str = "/metrics", **options: Any) -> int:
    url = f"https://127.0.0.1:{port}{path}"
    return requests.get(url, verify=certificates.authority, timeout=DEADLINE_SECONDS, **options).status_code


def test_a_new_certificate_is_shown_at_the_next_connection_unless_it_is_half_written(
    file: Path, certificates: Certificates, tmp_path: Path
) -> None:
    write_web_file(file, tls=certificates.files)
    with served(web_config=WebConfig(file)) as port, capture_logs() as logs:
        before = presented(port, certificates.context())
        renewed = certificates.renew()
        assert before != renewed
        assert presented(port, certificates.context()) == renewed
        key = (tmp_path / "key.pem").read_bytes()
        (tmp_path / "key.pem").write_bytes(key[:100])
        assert [presented(port, certificates.context()) for _ in range(2)] == [renewed] * 2
        (tmp_path / "key.pem").write_bytes(key)
        assert presented(port, certificates.context()) == renewed
    reloaded = "web_config.reloaded"
    assert [line["event"] for line in logs] == [reloaded, "web_config.rejected", reloaded]
    assert str(tmp_path / "key.pem") in logs[1]["errors"][0]


def test_a_certificate_that_vanishes_after_it_was_checked_is_an_error(
    file: Path, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_lose(path: Path) -> WebFile:
        found = read_web_file(path)
        (tmp_path / "key.pem").unlink()
        return found

    write_web_file(file, tls=certificates.files)
    monkeypatch.setattr("exporter.config.web_settings.read_web_file", read_and_lose)
    with pytest.raises(ConfigError, match="No such file or directory"):
        WebConfig(file)


def test_clients_need_a_certificate_where_it_says_so(file: Path, certificates: Certificates) -> None:
    stranger = certificates.for_client(type(certificates.ca)(), "stranger")
    required = {"client_auth_type": REQUIRED, "client_ca_file": "ca.pem"}
    write_web_file(file, tls={**certificates.files, **required})
    with served(web_config=WebConfig(file)) as port:
        assert status(port, certificates, cert=certificates.client) == 200
        for cert in (None, stranger):
            with pytest.raises(requests.ConnectionError):
                status(port, certificates, cert=cert)
        # It can be loosened while it runs: verified, but only if there is one.
        required["client_auth_type"] = "VerifyClientCertIfGiven"
        write_web_file(file, tls={**certificates.files, **required})
        assert status(port, certificates) == 200
        with pytest.raises(requests.ConnectionError):
            status(port, certificates, cert=stranger)


def test_old_versions_are_refused(file: Path, certificates: Certificates) -> None:
    write_web_file(file, tls={**certificates.files, "min_version": "TLS13"})
    with served(web_config=WebConfig(file)) as port:
        context = certificates.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            presented(port, context)
        write_web_file(file, tls=certificates.files)
        assert presented(port, context)


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_tls_itself_is_decided_at_the_start(file: Path, certificates: Certificates, scheme: str) -> None:
    """To switch it under way is said to need a restart; all the rest of the file applies."""
    users = {"prometheus": hashed(PASSWORD)}
    write_web_file(file, tls=certificates.files if scheme == "https" else None)
    with served(web_config=WebConfig(file)) as port, capture_logs() as logs:
        write_web_file(file, tls=None if scheme == "https" else certificates.files, users=users)
        url = f"{scheme}://127.0.0.1:{port}/metrics"
        # A response that is kept keeps its connection, and the server waits for it when it stops.
        answer = requests.get(url, verify=certificates.authority, timeout=DEADLINE_SECONDS).status_code
        assert answer == 401
    sections = [line["section"] for line in logs if line["event"] == "config.restart_required"]
    assert sections == ["tls_server_config"]


# Passwords and headers


HEADERS = {"X-Frame-Options": "deny", "X-Content-Type-Options": "nosniff"}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    users = {"prometheus": hashed(PASSWORD), "zoë": hashed("p:ß"), "long": hashed("x" * 72)}
    file = write_web_file(tmp_path_factory.mktemp("web") / "web.yaml", users=users, headers=HEADERS)
    with served(web_config=WebConfig(file)) as port:
        yield port


def get(port: int, path: str = "/metrics", headers: dict[str, str] | None = None) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (basic("prometheus", PASSWORD), 200),
        (basic("zoë", "p:ß"), 200),
        ({"Authorization": basic("prometheus", PASSWORD)["Authorization"].replace("Basic", "bASIC")}, 200),
        (basic("long", "x" * 200), 200),  # bcrypt looks at 72 bytes
        (basic("long", "x" * 71), 401),
        (basic("prometheus", "wrong"), 401),
        (basic("prometheus", ""), 401),
        (basic("prometheus", PASSWORD + "x" * 100), 401),
        (basic("nobody", PASSWORD), 401),
        (basic("", ""), 401),
        ({}, 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": "Basic %%%"}, 401),
        ({"Authorization": "Basic bm9jb2xvbg=="}, 401),
        ({"Authorization": f"Bearer {PASSWORD}"}, 401),
    ],
)
def test_only_the_right_password_is_let_in(port: int, headers: dict[str, str], expected: int) -> None:
    for _ in range(2):  # the verdict is the same when it is remembered
        assert get(port, headers=headers).status_code == expected


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/config", "/-/reload", "/nothing", "/-/healthy/", "//-/ready"]
)
def test_every_other_path_is_closed(port: int, path: str) -> None:
    response = get(port, path)
    assert (response.status_code, response.text) == (401, "Authentication required.\n")
    assert response.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/metrics", {}, 401),
        ("/metrics", basic("prometheus", PASSWORD), 200),
        ("/-/ready", {}, 200),
        ("/-/healthy", {}, 200),
    ],
)
def test_headers_are_added_to_every_answer(
    port: int, path: str, headers: dict[str, str], expected: int
) -> None:
    """Also to those of paths that are open, as the kubelet asks for them."""
    answer = get(port, path, headers)
    assert (answer.status_code, {key: answer.headers[key] for key in HEADERS}) == (expected, HEADERS)


def test_a_header_of_the_page_itself_is_not_replaced(file: Path) -> None:
    write_web_file(file, headers={"Content-Security-Policy": "default-src *"})
    with served(web_config=WebConfig(file)) as port:
        assert get(port, "/").headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert get(port, "/metrics").headers["Content-Security-Policy"] == "default-src *"


def test_users_come_and_go_without_a_restart(file: Path) -> None:
    def verdicts(port: int) -> list[int]:
        users = (basic("prometheus", PASSWORD), basic("grafana", "fake-password-two"))
        return [get(port, headers=user).status_code for user in users]

    write_web_file(file, users={"prometheus": hashed(PASSWORD)})
    with served(web_config=WebConfig(file)) as port, capture_logs() as logs:
        assert verdicts(port) == [200, 401]
        write_web_file(file, users={"grafana": hashed("fake-password-two")})
        assert verdicts(port) == [401, 200]
        file.write_text("basic_auth_users: {grafana: fake-password-two}\n")
        assert [verdicts(port) for _ in range(3)] == [[401, 200]] * 3
        file.unlink()
        assert verdicts(port) == [401, 200]
    assert [line["event"] for line in logs] == ["web_config.reloaded", *["web_config.rejected"] * 2]
    assert "fake-password-two" not in repr(logs)


async def _check_passwords(users: dict[str, str]) -> None:
    checker = PasswordChecker()
    assert await checker.check("prometheus", PASSWORD.encode(), users)
    accepted = dict(checker._accepted)
    for number in range(1, 1100):
        checker._rejected[str(number).encode()] = None
    assert not await checker.check("prometheus", b"a guess", users)
    assert len(checker._rejected) == 1000
    assert checker._accepted == accepted


def test_guesses_do_not_make_a_scraper_wait() -> None:
    """Wrong passwords are remembered too, a bounded number of them, apart from the right ones."""
    anyio.run(_check_passwords, {"prometheus": hashed(PASSWORD)})


def test_a_user_who_does_not_exist_costs_as_much_as_the_dummy_hash() -> None:
    users = {"cheap": hashed("x", cost=4), "dear": hashed("x", cost=6)}
    assert _dummy_hash(users).startswith("$2b$06$")
    assert _matches(b"x", _dummy_hash(users)) is False
