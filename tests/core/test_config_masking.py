from __future__ import annotations

import pytest

from nameko.masking import MASK, mask_config, mask_text, mask_uri


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("pyamqp://u:p@h:5672/v", f"pyamqp://u:{MASK}@h:5672/v"),
        ("amqps://u:p@h", f"amqps://u:{MASK}@h"),
        ("redis://:p@h", f"redis://:{MASK}@h"),
        ("amqp://u:p@q/r@h", f"amqp://u:{MASK}@h"),
        ("cannot reach amqp://u:p@h: refused", f"cannot reach amqp://u:{MASK}@h: refused"),
        ("amqp://h:5672/v", "amqp://h:5672/v"),
        ("http://h/?user=u&password=p&x=1", f"http://h/?user=u&password={MASK}&x=1"),
        ("no secret: at all", "no secret: at all"),
        ("tell `http://h:8000`, or http://h:9000.", "tell `http://h:8000`, or http://h:9000."),
        ("no host in amqp://u:canary: why?", f"no host in amqp://u:{MASK}: why?"),
        ("no scheme in u:canary@h", f"no scheme in u:{MASK}@h"),
        ("amqp:/u:canary@h", f"amqp:{MASK}@h"),
    ],
)
def test_passwords_in_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    ("uri", "masked"),
    [
        ("pyamqp://user@host//", "pyamqp://user@host//"),
        ("pyamqp://host", "pyamqp://host"),
        ("pyamqp://user:a@b:c@host/v", f"pyamqp://user:{MASK}@host/v"),
        ("pyamqp://user:a/b@host/v", f"pyamqp://user:{MASK}@host/v"),
        ("pyamqp://user:a b@host/v", f"pyamqp://user:{MASK}@host/v"),
        ("pyamqp://user:a?b#c;d@host/v", f"pyamqp://user:{MASK}@host/v"),
        ("pyamqp://user:p@ss/word@host/v", f"pyamqp://user:{MASK}@host/v"),
        ("pyamqp://user:a@host/v?password=x", f"pyamqp://user:{MASK}@host/v?password={MASK}"),
        ("pyamqp://:pw@host/v", f"pyamqp://:{MASK}@host/v"),
        # The host forgotten: what stands where the port would be is the password.
        ("amqp://user:canary", f"amqp://user:{MASK}"),
        ("amqp://user:canary/x", f"amqp://user:{MASK}"),
        ("amqp://user:1a?canary", f"amqp://user:{MASK}"),
        ("amqp://user:123456", f"amqp://user:{MASK}"),
        ("amqp://user:can;ary", f"amqp://user:{MASK}"),
        ("amqp://user@host:canary", f"amqp://user@host:{MASK}"),
        ("amqp://user:canary@host:canary/v", f"amqp://user:{MASK}@host:{MASK}"),
        ("amqp://user@[::1]:canary", f"amqp://user@[::1]:{MASK}"),
        ("amqp://user@host:5672/v", "amqp://user@host:5672/v"),
        # Not a colon before the password, but something else.
        ("amqp://user/canary@host/v", f"amqp://user/{MASK}@host/v"),
        ("amqp://user/can:ary@host/v", f"amqp://user/{MASK}@host/v"),
        ("amqp://user;canary@host", f"amqp://user;{MASK}@host"),
        ("amqp://user?canary@host", f"amqp://user?{MASK}@host"),
        ("amqp://user#canary@host", f"amqp://user#{MASK}@host"),
        ("amqp://user canary@host", f"amqp://user {MASK}@host"),
        ("amqp://user@canary@host", f"amqp://user@{MASK}@host"),
        ("amqp://user@host;canary", f"amqp://user@host;{MASK}"),
        ("amqp://host;canary", f"amqp://host;{MASK}"),
        ("https://host/@somebody/page", "https://host/@somebody/page"),
        ("amqp://host:5672/v?heartbeat=5", "amqp://host:5672/v?heartbeat=5"),
        ("amqp://host:", "amqp://host:"),
        ("amqp://[::1]:5672/v", "amqp://[::1]:5672/v"),
        ("amqp://u:p@h1 ; amqp://u:p@h2", f"amqp://u:{MASK}@h1;amqp://u:{MASK}@h2"),
        ("amqp://u:c;anary@h1;amqp://u:canary;amqp://h2", f"amqp://u:{MASK}@h1;amqp://u:{MASK};amqp://h2"),
        ("s3cret", "<not a URI>"),
    ],
)
def test_passwords_in_uris(uri: str, masked: str) -> None:
    assert mask_uri(uri) == masked
    if masked != "<not a URI>":
        assert mask_config({"A": uri, "B": [uri]}) == {"A": masked, "B": [masked]}


def test_several_uris_in_one_value() -> None:
    masked = mask_text("either amqp://u:canary@h1;amqp://u:canary@h2, or none")
    assert masked == f"either amqp://u:{MASK}@h1;amqp://u:{MASK}@h2, or none"


@pytest.mark.parametrize(
    "key",
    [
        "PASSWORD",
        "db_passwd",
        "DB_PASS",
        "smtp-pass",
        "pwd",
        "pw",
        "API_KEY",
        "apikey",
        "auth-token",
        "Secret",
        "credentials",
    ],
)
def test_keys_that_speak_of_secrets(key: str) -> None:
    config = {key: "canary", "nested": {"list": [{key: ["canary", 5]}]}, "plain": "shown"}
    masked = mask_config(config)
    assert "canary" not in str(masked)
    assert masked["plain"] == "shown"
    assert masked["nested"]["list"][0][key] == [MASK, MASK]


@pytest.mark.parametrize("key", ["passenger", "BYPASS", "compass_url"])
def test_keys_that_only_look_like_it(key: str) -> None:
    assert mask_config({key: "shown"}) == {key: "shown"}


def test_keys_declared_secret() -> None:
    config = {"A": "canary", "B": {"x": "canary"}, "C": "amqp://u:canary@host", "D": None}
    assert mask_config(config, {"A", "B", "C", "D"}) == {
        "A": MASK,
        "B": {"x": MASK},
        "C": f"amqp://u:{MASK}@host",
        "D": None,
    }


def test_the_original_is_left_alone() -> None:
    config = {"secrets": {"a": ["b"]}}
    mask_config(config)
    assert config == {"secrets": {"a": ["b"]}}
