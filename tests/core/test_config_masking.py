from __future__ import annotations

import pytest

from nameko.masking import MASK, mask_config, mask_text


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
    ],
)
def test_passwords_in_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_several_uris_in_one_value() -> None:
    assert "canary" not in mask_text("amqp://u:canary@h1;amqp://u:canary@h2")


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
