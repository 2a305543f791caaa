"""The values of the configuration: how the file writes each, and what it is in the program.

In the program, durations are in seconds, sizes in bytes, and paths start from the file's directory.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from exporter.config.addresses import (
    ListenAddress,
    parse_endpoint,
    parse_link,
    parse_listen_address,
    parse_proxy_url,
    parse_telemetry_path,
    without_user,
)
from exporter.config.sections import Leaf
from exporter.config.units import format_duration, format_size, parse_duration, parse_size, quoted


def _from_base(path: str, info: ValidationInfo) -> str:
    return str(info.context.base / path) if info.context else path


def _existing(path: str, info: ValidationInfo) -> str:
    full = _from_base(path, info)
    if info.context and not Path(full).exists():
        raise ValueError(f"{quoted(full, whole=True)} does not exist; expected an existing file")
    return full


def _no_file(path: str, info: ValidationInfo) -> str:
    full = _from_base(path, info)
    if info.context and Path(full).exists() and not Path(full).is_dir():
        raise ValueError(f"{quoted(full, whole=True)} is not a directory; expected one")
    return full


Text = Annotated[str, Field(min_length=1)]
Switch = Annotated[bool, Field(strict=True), Leaf("true or false")]
Count = Annotated[int, Field(ge=0, lt=2**63, strict=True), Leaf("a whole number, 0 or more")]
Number = Annotated[int, Field(ge=1, lt=2**63, strict=True), Leaf("a whole number, 1 or more")]
Duration = Annotated[
    float,
    Field(gt=0, strict=True),
    Leaf("a duration above 0, such as '30s'", parse_duration, format_duration),
]
Interval = Annotated[
    float, Field(ge=0.1, strict=True), Leaf("a duration of at least '100ms'", parse_duration, format_duration)
]
Size = Annotated[int, Field(ge=1024, strict=True), Leaf("a size of at least '1KiB'", parse_size, format_size)]
ExistingFile = Annotated[Text, Leaf("the path of a file"), AfterValidator(_existing)]
PemFile = Annotated[Text, Leaf("the path of a PEM file"), AfterValidator(_existing)]
Directory = Annotated[Text, Leaf("the path of a directory"), AfterValidator(_no_file)]
Endpoint = Annotated[str, Leaf("the URL of DataRobot's API", parse_endpoint)]
ProxyUrl = Annotated[str, Leaf("the URL of a proxy", parse_proxy_url, without_user)]
Link = Annotated[str, Leaf("a URL", parse_link)]
Listen = Annotated[ListenAddress, Leaf("an address such as ':10072'", parse_listen_address, str)]
TelemetryPath = Annotated[str, Leaf("a path such as '/metrics'", parse_telemetry_path)]
