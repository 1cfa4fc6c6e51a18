"""What is checked before the first request: addresses, keys, proxies, and who is asked when the environment says so."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import KEY_VARIABLE, Endpoint, honest, judge, questions

from sacpo.errors import RecipeError, RunError
from sacpo.judging import Asking, LlmJudgeConfig, Store, judge_llm
from sacpo.judging.llm.access import check_access, proxy_of
from sacpo.judging.llm.specs import asked_of, check_panel
from sacpo.recipe.address import endpoint_of, fault_of, is_local
from sacpo.recipe.llm import LlmSpec

AWAY = "https://judges.example/v1"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment without proxies, endpoints and certificates of its own."""
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_PROXY".upper(), raising=False)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_ORG_ID", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.mark.parametrize(
    "url",
    [
        "http://h:99999/v1",
        "http://h:0/v1",
        "http://h:port/v1",
        "http://[::1/v1",
        "http://:8000/v1",
        "http://a..b/v1",
        f"http://{'x' * 64}.example/v1",
        "http://h /v1",
        "http://h/v1\n",
        "http://h/v1#x",
        "http://h/v1?key=1",
        "ftp://h/v1",
        "h:8000/v1",
        "http://h\\v1",
        "http://h/v1/chat/completions",
    ],
)
def test_an_address_that_no_request_reaches_is_refused_where_it_is_written(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fault_of(url)
    with pytest.raises(RecipeError, match="no plain address"):
        LlmSpec(model="m", base_url=url)
    monkeypatch.setenv("OPENAI_BASE_URL", url.replace("\n", " x"))
    with pytest.raises(RunError, match="OPENAI_BASE_URL is no plain address"):
        check_access(judge(""))


@pytest.mark.parametrize(
    "url", [AWAY, "http://[::1]:80/v1", "http://10.0.0.7:8000", "http://a_b/v1/", "http://münze.de"]
)
def test_plain_addresses_pass(url: str) -> None:
    assert fault_of(url) is None


def test_addresses_of_this_machine_are_known() -> None:
    local = ["http://localhost:1", "http://127.0.0.9/v1", "http://[::1]:2/v1", "http://x.localhost", "http://0.0.0.0:8"]
    assert [is_local(url) for url in local] == [True] * 5
    away = [AWAY, "http://127.0.0.1.example/v1", "http://localhost.example", "http://10.0.0.1", "http://192.168.1.2"]
    assert [is_local(url) for url in away] == [False] * 5


@pytest.mark.parametrize("key", ["abc\n", "abc\r\nX-Other: 1", "schlüssel-1", "a b", "\u200babc", "Bearer abc"])
def test_a_key_that_no_header_carries_is_named_by_its_variable_alone(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(RunError, match=KEY_VARIABLE) as caught:
        check_access(judge(AWAY, api_key_env=KEY_VARIABLE))
    assert key.strip() not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_API_KEY_OLD", "HOME"])
def test_a_variable_of_another_secret_needs_a_word(name: str) -> None:
    with pytest.raises(RecipeError, match=f"may hold a secret[\\s\\S]*{name}[\\s\\S]*send_key_anyway"):
        LlmSpec(model="m", base_url=AWAY, api_key_env=name)
    assert LlmSpec(model="m", base_url=AWAY, api_key_env=name, send_key_anyway=True).api_key_env == name
    assert LlmSpec(model="m", base_url=AWAY, api_key_env="MY_API_KEY").send_key_anyway is False


def test_a_key_leaves_this_machine_by_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the variable is the default one, and where the address comes from the environment."""
    plain = "http://judges.example/v1"
    with pytest.raises(RecipeError, match="over plain http"):
        LlmSpec(model="m", base_url=plain, api_key_env="MY_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "k-0123456789")
    own = LlmJudgeConfig.of(judge("").rubric, model="m", base_url=plain)
    with pytest.raises(RecipeError, match="over plain http"):
        check_access(own)
    assert check_access(judge(plain, api_key_env="OPENAI_API_KEY", send_key_anyway=True)) == "k-0123456789"
    assert check_access(judge(plain)) == ""
    assert check_access(judge(AWAY, api_key_env="OPENAI_API_KEY")) == "k-0123456789"
    assert check_access(judge("http://localhost:1/v1", api_key_env="OPENAI_API_KEY")) == "k-0123456789"
    monkeypatch.setenv("OPENAI_BASE_URL", plain)
    with pytest.raises(RecipeError, match="over plain http"):
        check_access(judge("", api_key_env="OPENAI_API_KEY"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:7890/", "no such kind of proxy as socks://"),
        ("https_proxy", "ftp://127.0.0.1:1", "no such kind of proxy as ftp://"),
        ("HTTPS_PROXY", "http://127.0.0.1:99999", "malformed"),
        ("HTTP_PROXY", "http://:8080", "malformed"),
        ("HTTPS_PROXY", "http://pröxy:1", "malformed"),
        ("OPENAI_ORG_ID", "org-ü", "no header can carry it"),
        ("OPENAI_CUSTOM_HEADERS", "X-One: 1\nX-Two: ü", "no header can carry it"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "certificates that are not there"),
    ],
)
def test_what_the_environment_breaks_is_named(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=words) as caught:
        check_access(judge(AWAY))
    assert name in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="SOCKS proxies work here")
def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:7890")
    with pytest.raises(RunError, match=r"ALL_PROXY[\s\S]*pip install socksio, or unset ALL_PROXY"):
        check_access(judge(AWAY))
    monkeypatch.setenv("NO_PROXY", "*")
    assert check_access(judge(AWAY)) == ""


def test_an_endpoint_of_this_machine_is_asked_past_every_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    with Endpoint(honest) as server, Store(tmp_path / "v") as store:
        assert len(judge_llm([judge(server.url)], questions(1), store).verdicts) == 2


def test_a_proxy_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert proxy_of("http://judges.example/v1") == "HTTP_PROXY"
    assert proxy_of(AWAY) == proxy_of("http://localhost:1/v1") == ""
    with Store(tmp_path / "v") as store:
        run = judge_llm(
            [judge("http://judges.example/v1", retries=0)], questions(1), store, asking=Asking(orders=("ab",))
        )
    assert "through the proxy of HTTP_PROXY (ConnectError)" in run.missing[0].reason


def test_another_endpoint_of_the_environment_is_another_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first server finds the answers unlike, the second calls all of them equal."""

    def ties(body: dict[str, Any], n: int) -> str:
        return honest(body, n).split(":")[0] + ": 5 5"

    with Endpoint(honest) as first, Endpoint(ties) as second, Store(tmp_path / "v") as store:
        own = judge("")
        found = {}
        for server in (first, second, first):
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            found[server] = judge_llm([own], questions(3), store).verdicts
        assert (len(first.bodies), len(second.bodies)) == (6, 6)
    assert {v.outcome for v in found[second]} == {"tie"}
    assert {v.outcome for v in found[first]} != {"tie"}


def test_the_endpoint_is_part_of_what_a_recipes_stage_is_known_by(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, named = LlmSpec(model="m"), LlmSpec(model="m", name="n", base_url=AWAY)
    before = asked_of(spec)
    assert before["base_url"] == LlmJudgeConfig.of(judge("").rubric, model="m").settings()["base_url"] == ""
    check_panel([spec, named], "panel")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
    assert asked_of(spec) == before  # OpenAI's own, however it is said
    monkeypatch.setenv("OPENAI_BASE_URL", AWAY)
    assert (asked_of(spec)["base_url"], endpoint_of("http://given:1")) == (AWAY, "http://given:1")
    with pytest.raises(RecipeError, match="the same but for their names"):
        check_panel([spec, named], "panel")


@pytest.mark.parametrize("field", ["model", "messages", "stream", "n"])
def test_extra_sets_no_field_that_replies_depend_on(field: str) -> None:
    with pytest.raises(RecipeError, match="not its own"):
        LlmSpec(model="m", extra={field: True})
    assert LlmSpec(model="m", extra={"stream": False, "top_p": 0.5}).extra == {"stream": False, "top_p": 0.5}
