"""The account of a file without accounts: of environment variables, or of the vendor client's file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from exporter.config.config_errors import ConfigErrors
from exporter.config.sections import Leaf, Section
from exporter.config.validation import validate
from exporter.config.values import Endpoint
from exporter.config.yaml_document import read_yaml


NO_ACCOUNT: Final = (
    "no account is configured; expected accounts in the configuration file, or the environment variables "
    "DATAROBOT_API_TOKEN and, unless it is app.datarobot.com, DATAROBOT_ENDPOINT"
)
_TOKEN: Final = "DATAROBOT_API_TOKEN"  # noqa: S105 the variable's name
_ENDPOINT: Final = "DATAROBOT_ENDPOINT"
_FILE: Final = "DATAROBOT_CONFIG_FILE"
_DEFAULT_ENDPOINT: Final = "https://app.datarobot.com/api/v2"
_ACCOUNT: Final = ("accounts", 0)


class _VendorFile(Section):
    """The keys of ``drconfig.yaml`` that the exporter needs."""

    token: Annotated[str, Leaf("the API token in quotes", secret=True)]
    endpoint: Endpoint = _DEFAULT_ENDPOINT
    ssl_verify: Annotated[bool | str, Leaf("true, false or the path of a PEM file")] = True


def add_account(errors: ConfigErrors, environ: Mapping[str, str]) -> tuple[str, int]:
    """Add the account `default` to the data of a configuration.

    Returns:
        Where it comes from, empty if there is none; and the permission bits of the vendor client's file.

    Raises:
        ConfigError: Errors of the vendor client's file.
    """
    account: dict[str, Any] = {"name": "default", "endpoint": environ.get(_ENDPOINT) or _DEFAULT_ENDPOINT}
    if environ.get(_TOKEN):
        errors.sources[*_ACCOUNT, "endpoint"] = _ENDPOINT
        errors.sources[*_ACCOUNT, "authorization", "credentials_env"] = _TOKEN
        errors.root["accounts"] = [{**account, "authorization": {"credentials_env": _TOKEN}}]
        given = [name for name in (_ENDPOINT, _TOKEN) if environ.get(name)]
        return f"environment variable{'s' * (len(given) - 1)} {', '.join(given)}", 0
    usual = Path(environ.get("HOME") or "/", ".config", "datarobot", "drconfig.yaml")
    path = Path(environ[_FILE]).expanduser() if environ.get(_FILE) else usual
    if path == usual and not path.exists():
        return "", 0
    of_file = ConfigErrors(str(path))
    mode = read_yaml(path, of_file, missing=f"; {_FILE} names it")
    known = {key: value for key, value in of_file.root.items() if key in _VendorFile.model_fields}
    found = of_file.result(validate(_VendorFile, known, of_file))
    errors.sources[*_ACCOUNT, "authorization", "credentials"] = of_file.where(("token",))
    errors.sources[*_ACCOUNT, "tls_config", "ca_file"] = of_file.where(("ssl_verify",))
    verify = found.ssl_verify
    authorities = {"ca_file": str(Path(verify).absolute())} if isinstance(verify, str) else {}
    account["endpoint"], account["authorization"] = found.endpoint, {"credentials": found.token}
    errors.root["accounts"] = [{**account, "tls_config": {"insecure_skip_verify": not verify, **authorities}}]
    return str(path), mode
