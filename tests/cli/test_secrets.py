"""Passwords in addresses, which no output and no log may show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import LONGEST_S
from tuner.errors import TunerError, masked

SECRET = "hunter2"  # noqa: S105 - nobody has it
NOWHERE = "127.0.0.1:9"

passwords = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1)


@given(password=passwords, before=st.text(), after=st.text())
def test_a_password_is_masked_wherever_its_address_stands(
    password: str, before: str, after: str
) -> None:
    address = f"postgresql://someone:{password}@server/name"
    hidden = masked(f"{before} {address} {after}")
    assert "postgresql://someone:***@server/name" in hidden
    assert str(TunerError(address)) == "postgresql://someone:***@server/name"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://u:hun/ter2@h:5/db", "postgresql://u:***@h:5/db"),
        ("postgresql://u:hun@/?ter2@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db?password=hunter2&x=1", "postgresql://u@h/db?password=***&x=1"),
        ("postgresql://u@h/db?x=1&sslpassword=hunter2", "postgresql://u@h/db?x=1&sslpassword=***"),
        ("postgresql:///db?host=/s&password=a@b", "postgresql:///db?host=/s&password=***"),
        ("https://hunter2@h/x", "https://***@h/x"),
        ("https://hunter2:x-oauth-basic@h", "https://***@h"),
        ("http://h/x?access_token=hunter2 and", "http://h/x?access_token=*** and"),
        ("https://b/x?X-Amz-Signature=hunter2&Expires=1", "https://b/x?X-Amz-Signature=***&Expires=1"),
        ("https://h/x#access_token=hunter2", "https://h/x#access_token=***"),
        ("https://h/x?auth=hunter2&jwt=hunter2&a=1", "https://h/x?auth=***&jwt=***&a=1"),
        ("https://h/x?pw=hunter2 and", "https://h/x?pw=*** and"),
        ("https://h/x?code=hunter2&zip_code=1", "https://h/x?code=***&zip_code=1"),
        ("mssql://h/db?a=1;pwd=hunter2", "mssql://h/db?a=1;pwd=***"),
        ("redis://hunter2@h/1", "redis://***@h/1"),
        ("databricks://hunter2@x", "databricks://***@x"),
        ("postgresql+psycopg://u@h/db", "postgresql+psycopg://u@h/db"),
        ("http://127.0.0.1:5000/#/runs?type=ml", "http://127.0.0.1:5000/#/runs?type=ml"),
        ("models:/digits@champion s3://b/a@b", "models:/digits@champion s3://b/a@b"),
    ],
)  # fmt: skip
def test_what_is_secret_in_an_address_and_what_is_not(address: str, shown: str) -> None:
    assert masked(f"at {address}") == f"at {shown}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("with url: /?token=hunter2 (Caused by X)", "with url: /?token=*** (Caused by X)"),
        ("url: /path;key=hunter2 (Caused by X)", "url: /path;key=*** (Caused by X)"),
        ("url: /api/x?a=1&access_token=hunter2&b=2 (", "url: /api/x?a=1&access_token=***&b=2 ("),
        ("h:5000/x?api_key=hunter2", "h:5000/x?api_key=***"),
        ("host=h password=hunter2 dbname=d", "host=h password=*** dbname=d"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"),
        ("user=u, passwd=hunter2 host=h", "user=u, passwd=*** host=h"),
        ("host=h sslpassword = 'hunter 2' user=u", "host=h sslpassword = *** user=u"),
        (r"password='hunter\'2' user=u", "password=*** user=u"),
        ('Login(user="u", password="hunter2")', 'Login(user="u", password=***)'),
    ],
)
def test_what_is_secret_outside_of_an_address(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "connect(host, password=None, hide_password=False)",
        "login(user=user, password=self.password)",
        "login(password=password, db_password=db_password)",
        'if password == "x" or password != y: password = read(file)',
        "PWD=/home/me KEY=1 token=2 code=3 key=lambda row: row.key",
        "baseline[0].learning_rate=0.001; bypass=1",
        "sort(key=len);key=3 #token=4 a&token=5",
        "(known: digits, mnist); did you mean 'digits'? key=value",
        "wrong password=",
        "the password: see docs/x.md?",
    ],
)
def test_text_without_a_secret_stays(text: str) -> None:
    assert masked(text) == text


@given(text=st.text(st.characters(exclude_characters="@=")))
def test_text_without_users_and_settings_stays(text: str) -> None:
    assert masked(text) == text


@given(password=st.text(min_size=1), before=st.text(st.characters(exclude_characters="'\"")))
def test_a_quoted_password_is_masked_whatever_it_holds(password: str, before: str) -> None:
    quoted = password.replace("\\", r"\\").replace("'", r"\'")
    assert masked(f"{before} password='{quoted}' user=u").endswith(" password=*** user=u")


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("TUNER_STORAGE_URL", f"postgresql://someone:{SECRET}@{NOWHERE}/name?connect_timeout=2"),
        ("TUNER_STORAGE_URL", f"postgresql://someone:a/{SECRET}@{NOWHERE}/name?connect_timeout=2"),
        ("TUNER_STORAGE_URL", f"postgresql://someone:a@{SECRET}@{NOWHERE}/name?connect_timeout=2"),
        ("TUNER_STORAGE_URL", f"postgresql:/someone:{SECRET}@{NOWHERE}/name"),
        ("TUNER_STORAGE_URL", f"postgresql://{NOWHERE}/name?connect_timeout=2&password={SECRET}"),
        ("TUNER_STORAGE_URL", f"nosuch://someone:{SECRET}@{NOWHERE}/name"),
        ("MLFLOW_TRACKING_URI", f"http://someone:{SECRET}@{NOWHERE}"),
        ("MLFLOW_TRACKING_URI", f"http://{SECRET}@{NOWHERE}"),
        ("MLFLOW_TRACKING_URI", f"http://{NOWHERE}/x?code={SECRET}"),
        ("MLFLOW_TRACKING_URI", f"ftp://someone:{SECRET}@{NOWHERE}"),
    ],
)
def test_no_command_shows_the_password_of_a_server_that_refuses(
    tmp_path: Path, variable: str, address: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tuner", "--debug", "doctor"],
        env=os.environ | {"TUNER_HOME": str(tmp_path / "home"), variable: address},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    assert ran.returncode in (2, 3)
    assert "error: " in ran.stderr
    assert SECRET not in ran.stdout + ran.stderr
    logs = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in logs if SECRET.encode() in path.read_bytes()]
