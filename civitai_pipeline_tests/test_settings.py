"""Every variable of the environment: its default, what it takes, what it refuses and how it says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.settings import Settings, SettingsError, load_settings

VARIABLES = {
    "CIVITAI_BASE_URL": "base_url",
    "CIVITAI_API_KEY": "api_key",
    "CIVITAI_LAKE": "lake",
    "DAGSTER_HOME": "dagster_home",
    "CIVITAI_MIN_REQUEST_INTERVAL": "min_request_interval",
    "CIVITAI_TIMEOUT": "timeout",
    "CIVITAI_RETRY_BUDGET": "retry_budget",
    "CIVITAI_BROWSING_LEVEL": "browsing_level",
    "CIVITAI_WATCHLIST": "watchlist",
    "CIVITAI_TAXONOMY": "taxonomy",
    "CIVITAI_REPORT_URL": "report_url",
    "CIVITAI_FAILURE_WEBHOOK": "failure_webhook",
}
KEY = "s3cret-0123456789abcdef"


def test_an_empty_environment_gives_the_defaults_of_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    defaults = load_settings({})
    assert defaults == Settings(
        base_url="https://civitai.com",
        api_key=None,
        lake="data",
        dagster_home=tmp_path / ".dagster",
        min_request_interval=1.0,
        timeout=60.0,
        retry_budget=120.0,
        browsing_level=1,
        watchlist="watchlist.yaml",
        taxonomy=None,
        report_url=None,
        failure_webhook=None,
    )
    assert load_settings(dict.fromkeys(VARIABLES, "")) == defaults
    assert load_settings(dict.fromkeys(VARIABLES, " \t")) == defaults


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("CIVITAI_BASE_URL", "http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("CIVITAI_BASE_URL", " https://civitai.green// ", "https://civitai.green"),
        ("CIVITAI_BASE_URL", "http://[::1]:99", "http://[::1]:99"),
        ("CIVITAI_API_KEY", f" {KEY}\n", KEY),
        ("CIVITAI_LAKE", "s3://bucket/lake", "s3://bucket/lake"),
        ("DAGSTER_HOME", "/var/dagster", Path("/var/dagster")),
        ("CIVITAI_MIN_REQUEST_INTERVAL", "0", 0.0),
        ("CIVITAI_MIN_REQUEST_INTERVAL", "0.25", 0.25),
        ("CIVITAI_TIMEOUT", "1e1", 10.0),
        ("CIVITAI_RETRY_BUDGET", "0", 0.0),
        ("CIVITAI_BROWSING_LEVEL", "31", 31),
        ("CIVITAI_WATCHLIST", "/etc/versions.yaml", "/etc/versions.yaml"),
        ("CIVITAI_TAXONOMY", " words.toml ", "words.toml"),
        ("CIVITAI_REPORT_URL", "http://127.0.0.1:8700/", "http://127.0.0.1:8700"),
        ("CIVITAI_REPORT_URL", "https://intranet.example/prompts/", "https://intranet.example/prompts"),
        ("CIVITAI_FAILURE_WEBHOOK", "https://hooks.example/T0/B0", "https://hooks.example/T0/B0"),
    ],
)
def test_each_variable_is_read(name: str, text: str, value: object) -> None:
    assert getattr(load_settings({name: text}), VARIABLES[name]) == value


def test_the_process_own_environment_is_read_when_asked_and_not_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CIVITAI_BROWSING_LEVEL", "3")
    assert load_settings().browsing_level == 3
    monkeypatch.setenv("CIVITAI_BROWSING_LEVEL", "7")
    assert load_settings().browsing_level == 7


def test_home_and_relative_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_settings({"DAGSTER_HOME": "~/instance"}).dagster_home == tmp_path / "instance"
    assert load_settings({"DAGSTER_HOME": "instance"}).dagster_home == tmp_path / "instance"


REFUSED = [
    *(
        ("CIVITAI_BASE_URL", text)
        for text in (
            "civitai.com", "ftp://civitai.com", "https://", "https:///path", "https://h:99999", "https://h:port", "http://[::1",
            "https://h?x=1", "https://h?", "https://h#", "https://a b.com", "https://h\nx", "https://u:p@h", "https://u@h",
        )
    ),
    *(("CIVITAI_REPORT_URL", text) for text in ("reports", "file:///reports", "https://h?x=1", "https://u:p@h", "a b")),
    *(("CIVITAI_API_KEY", text) for text in ("two words", "schl\u00fcssel", "a\x00b", "line\nbreak", "Bearer abc")),
    *(
        (name, text)
        for name in ("CIVITAI_MIN_REQUEST_INTERVAL", "CIVITAI_TIMEOUT", "CIVITAI_RETRY_BUDGET")
        for text in ("soon", "-1", "nan", "inf", "-inf", "1e300", "86401", "1,5", "5s")
    ),
    ("CIVITAI_TIMEOUT", "0"),
    ("CIVITAI_TIMEOUT", "-0.0"),
    *(("CIVITAI_BROWSING_LEVEL", text) for text in ("0", "32", "-1", "1.0", "PG", "٣", "²", "9" * 5000, "01", "1_0")),
    *(("CIVITAI_FAILURE_WEBHOOK", text) for text in ("hooks.example", "ftp://hooks.example", "file:///etc/passwd")),
    ("DAGSTER_HOME", "~nobody-of-this-name/dagster"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_a_bad_value_is_refused_in_a_line_that_names_the_variable(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: text})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.dictionaries(st.sampled_from(sorted(VARIABLES)), st.text(st.characters(exclude_characters="\0", codec="utf-8")))
)
def test_no_environment_fails_in_another_way(environ: dict[str, str]) -> None:
    try:
        loaded = load_settings(environ)
    except SettingsError:
        return
    assert loaded.base_url.lower().startswith(("http://", "https://"))
    assert 1 <= loaded.browsing_level <= 31
    assert 0 <= loaded.min_request_interval <= 86_400
    assert 0 < loaded.timeout <= 86_400


@pytest.mark.parametrize(
    "url", ["http://civitai.com", "http://10.0.0.1:8080", "http://localhost.evil.test", "http://0.0.0.0"]
)
def test_a_key_is_not_sent_in_the_clear_to_another_machine(url: str) -> None:
    with pytest.raises(SettingsError, match="CIVITAI_API_KEY would travel unencrypted"):
        load_settings({"CIVITAI_BASE_URL": url, "CIVITAI_API_KEY": KEY})
    assert load_settings({"CIVITAI_BASE_URL": url}).api_key is None


@pytest.mark.parametrize(
    "url", ["https://civitai.com", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "HTTP://LOCALHOST"]
)
def test_a_key_may_go_over_https_and_to_this_machine(url: str) -> None:
    assert load_settings({"CIVITAI_BASE_URL": url, "CIVITAI_API_KEY": KEY}).api_key == KEY


def test_the_key_is_in_no_repr_and_in_no_message() -> None:
    assert KEY not in repr(load_settings({"CIVITAI_API_KEY": KEY, "CIVITAI_FAILURE_WEBHOOK": f"https://hooks/{KEY}"}))
    bad: list[dict[str, Any]] = [
        {"CIVITAI_API_KEY": f"{KEY} {KEY}"},
        {"CIVITAI_API_KEY": KEY, "CIVITAI_BASE_URL": "http://civitai.com"},
        {"CIVITAI_BASE_URL": f"https://civitai.com?token={KEY}"},
        {"CIVITAI_FAILURE_WEBHOOK": f"hooks/{KEY}"},
        {"CIVITAI_BASE_URL": f"https://me:{KEY}@civitai.com"},
        {"CIVITAI_BASE_URL": f"ftp://me:{KEY}@civitai.com"},
        {"CIVITAI_BASE_URL": f"https://me:{KEY}@civitai.com:99999"},
    ]
    for environ in bad:
        with pytest.raises(SettingsError) as caught:
            load_settings(environ)
        assert KEY not in str(caught.value)


def test_the_example_file_lists_every_variable_with_its_default() -> None:
    text = (Path(__file__).parents[1] / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert set(listed) == set(VARIABLES)
    given_values = {name: value for name, value in listed.items() if name != "DAGSTER_HOME"}
    assert load_settings(given_values) == load_settings({})
