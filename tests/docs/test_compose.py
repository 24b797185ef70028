"""The compose file gives no service rights that it does not need; `scripts/stack` runs it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

FILE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(FILE)["services"]
_SECRET = re.compile(r"\$\{?\w*(PASSWORD|SECRET|TOKEN|KEY)|://[^@/]*:[^@/]*@")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert all("noexec" in mount for mount in service["tmpfs"])
    assert not {"privileged", "user", "pid", "ipc", "network_mode", "devices"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_no_arguments_hold_a_secret(name: str) -> None:
    service = SERVICES[name]
    arguments = [service.get(key) for key in ("command", "entrypoint", "healthcheck", "build")]
    assert not _SECRET.search(json.dumps(arguments))


def test_nobody_but_this_machine_reaches_what_asks_for_no_password() -> None:
    defaults = {name: str(service.get("ports", "")) for name, service in SERVICES.items()}
    open_to_all = {name for name, ports in defaults.items() if ports and "127.0.0.1:" not in ports}
    assert open_to_all == {"mlflow-auth"}
