"""Settings: what the configuration may say about the broker, and what is wrong with it."""

from __future__ import annotations

import logging

import pytest

from nameko.amqp.settings import AmqpSettings, FrozenOptions, _default_uri
from nameko.exceptions import ConfigurationError

URI = "pyamqp://user:s3cret@broker.example:5672/vhost"


def settings(**config):
    return AmqpSettings.from_config({"AMQP_URI": URI, **config})


def test_defaults():
    made = settings()
    assert made.uri == URI
    assert (made.heartbeat_s, made.start_timeout_s, made.publish_timeout_s) == (60, 60, 30)
    assert made.max_message_bytes == 16 * 1024 * 1024
    assert (made.ssl, made.login_method) == (None, None)
    assert not made.in_process


def test_no_uri_is_the_in_process_broker_and_said_in_one_line(caplog):
    caplog.set_level(logging.INFO)
    _default_uri.cache_clear()
    made = AmqpSettings.from_config({})
    assert AmqpSettings.from_config({}) == made
    assert made.uri == "memory://localhost"
    assert made.in_process
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "AMQP_URI is not set" in caplog.text


def test_equal_settings_are_one_key():
    config = {"AMQP_SSL": {"ca_certs": "x", "cert_reqs": "CERT_REQUIRED"}, "TRANSPORT_OPTIONS": {"a": {"b": [1]}}}
    first, second = settings(**config), settings(**config)
    assert first == second
    assert hash(first) == hash(second)
    assert settings(HEARTBEAT=5) != first


def test_values_are_read():
    made = settings(
        HEARTBEAT=7,
        CONNECT_TIMEOUT=1.5,
        START_TIMEOUT=2,
        PUBLISH_TIMEOUT=3,
        MAX_MESSAGE_BYTES=4,
        LOGIN_METHOD="EXTERNAL",
        TRANSPORT_OPTIONS={
            "max_retries": 3,
            "interval_start": 2,
            "interval_step": 1,
            "interval_max": 5,
            "frame_max": 9,
        },
    )
    assert (made.heartbeat_s, made.connect_timeout_s, made.start_timeout_s, made.publish_timeout_s) == (7, 1.5, 2, 3)
    assert (made.max_message_bytes, made.login_method) == (4, "EXTERNAL")
    assert dict(made.transport_options) == {"frame_max": 9}
    assert settings(HEARTBEAT=None).heartbeat_s is None
    assert settings(HEARTBEAT=0).heartbeat_s is None


def test_a_transport_option_that_is_unknown_is_said_once_and_those_of_the_library_are_not(caplog):
    made = settings(TRANSPORT_OPTIONS={"frame_maxx": 9, "connect_retries_timeout": 1, "client_properties": {}})
    assert settings(TRANSPORT_OPTIONS={"frame_maxx": 9, "connect_retries_timeout": 1, "client_properties": {}}) == made
    [message] = caplog.messages
    assert (
        message == "TRANSPORT_OPTIONS: option 'frame_maxx' (did you mean 'frame_max'?) is not known to the AMQP library"
    )


def test_arguments_win_over_the_configuration():
    made = AmqpSettings.from_config(
        {"AMQP_URI": URI, "AMQP_SSL": True, "LOGIN_METHOD": "PLAIN"},
        uri="pyamqp://localhost//",
        ssl=None,
        login_method=None,
    )
    assert (made.uri, made.ssl, made.login_method) == ("pyamqp://localhost//", None, None)


def test_tls_by_scheme_or_key():
    assert dict(AmqpSettings.from_config({"AMQP_URI": "amqps://host//"}).ssl) == {}
    assert dict(AmqpSettings.from_config({"AMQP_URI": "AMQPS://host//"}).ssl) == {}
    assert dict(AmqpSettings.from_config({"AMQP_URI": "amqp://a//; PyAmqpS://b//"}).ssl) == {}
    assert dict(settings(AMQP_SSL=True).ssl) == {}
    assert dict(settings(AMQP_SSL={"ca_certs": "x"}).ssl) == {"ca_certs": "x"}
    assert settings(AMQP_SSL=False).ssl is None


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"AMQP_URI": "localhost"}, "`<not a URI>`: it has no scheme .one of amqp, amqps, memory, pyamqp"),
        ({"AMQP_URI": "redis://localhost"}, "scheme `redis` is not one of"),
        ({"AMQP_URI": "pyamqp:/u:s3cret@host"}, "`<not a URI>`: `://` is missing after scheme `pyamqp`; expected"),
        ({"AMQP_URI": "pyamqp://u:s3cret@host:port//"}, r"`pyamqp://u:\*{8}@host:\*{8}`: the port"),
        ({"AMQP_URI": "pyamqp://u@host:s3cret"}, r"`pyamqp://u@host:\*{8}`: the port"),
        ({"AMQP_URI": "pyamqp://u/s3cret@host"}, r"`pyamqp://u/\*{8}@host`: there is an `@` behind the host"),
        ({"AMQP_URI": "pyamqp://u;s3cret@host"}, r"`pyamqp://u;\*{8}@host`: it has no scheme"),
        ({"AMQP_URI": "pyamqp://u:s3cret@host:99999//"}, "the port is not a number up to 65535"),
        ({"AMQP_URI": "pyamqp://u:s3cret"}, r"`pyamqp://u:\*{8}`: the port is not a number up to 65535; expected"),
        ({"AMQP_URI": "pyamqp://u:s3cret/x"}, r"`pyamqp://u:\*{8}`: the port"),
        ({"AMQP_URI": "pyamqp://u:s3/cret@host//"}, r"`pyamqp://u:\*{8}@host//`: the port"),
        ({"AMQP_URI": "pyamqp://u:s3?cret@host//"}, r"`pyamqp://u:\*{8}@host//`: the port"),
        ({"AMQP_URI": "pyamqp://u:s3;cret@host//"}, r"`pyamqp://u:\*{8}@host//`: the port"),
        ({"AMQP_URI": "pyamqp://u:3;s3cret:x@host//"}, r"`pyamqp://u:\*{8}@host//`: it has no scheme"),
        ({"AMQP_URI": "pyamqp://u:s@s3/cret@host//"}, r"`pyamqp://u:\*{8}@host//`: there is an `@` behind the host"),
        (
            {"AMQP_URI": "pyamqp://host/v?connection_attempts=3"},
            "there is no option `connection_attempts` for its query",
        ),
        ({"AMQP_URI": "pyamqp://host/v?heartbeat=abc"}, "`heartbeat` in its query is not a number"),
        ({"AMQP_URI": "pyamqp://host/v?login_method=FOO"}, "`login_method` in its query is not one of AMQPLAIN"),
        ({"AMQP_URI": "pyamqp://u:3/s3cret@host//"}, r"`pyamqp://u:\*{8}@host//`: there is an `@` behind the host"),
        ({"AMQP_URI": "s3cret:x@host"}, "`<not a URI>`: it has no scheme"),
        ({"AMQP_URI": "pyamqp://a:b@h1;pyamqp://u:s3cret"}, r"`pyamqp://a:\*{8}@h1;pyamqp://u:\*{8}`: the port"),
        ({"AMQP_URI": "pyamqp://[::1//"}, "cannot be parsed"),
        ({"AMQP_URI": 5672}, "AMQP_URI must be a string, not int"),
        ({"AMQP_SSL": "yes"}, "AMQP_SSL must be true, false or a mapping, not str"),
        ({"AMQP_SSL": {"ssl_version": 5}}, "AMQP_SSL: unknown option `ssl_version`; known are ca_certs, "),
        ({"AMQP_URI": "amqps://host//", "AMQP_SSL": False}, "AMQP_SSL is false, but AMQP_URI asks for TLS"),
        ({"AMQP_URI": "amqp://a//;AMQPS://b//", "AMQP_SSL": False}, "AMQP_SSL is false, but AMQP_URI asks for TLS"),
        ({"LOGIN_METHOD": "MAGIC"}, "LOGIN_METHOD `MAGIC` is not one of AMQPLAIN, EXTERNAL, GSSAPI, PLAIN"),
        ({"HEARTBEAT": "often"}, "HEARTBEAT must be from 1 to 65535 seconds, or null, not 'often'"),
        ({"HEARTBEAT": True}, "HEARTBEAT must be"),
        ({"HEARTBEAT": 70000}, "HEARTBEAT must be"),
        ({"PUBLISH_TIMEOUT": 0}, "PUBLISH_TIMEOUT must be a number of seconds above 0, not 0"),
        ({"START_TIMEOUT": -1}, "START_TIMEOUT must be"),
        ({"CONNECT_TIMEOUT": "5 s"}, "CONNECT_TIMEOUT must be"),
        ({"MAX_MESSAGE_BYTES": 1.5}, "MAX_MESSAGE_BYTES must be a number of bytes above 0, not 1.5"),
        ({"TRANSPORT_OPTIONS": [1]}, "TRANSPORT_OPTIONS must be a mapping, not list"),
    ],
)
def test_what_cannot_work_is_one_line_that_names_the_key(config, text):
    with pytest.raises(ConfigurationError, match=text) as raised:
        settings(**config)
    assert "\n" not in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert "cret@" not in str(raised.value)


def test_secrets_do_not_show():
    made = settings(AMQP_SSL={"keyfile_password": "s3cret"})
    assert "s3cret" not in repr(made)
    assert "s3cret" not in made.masked_uri
    assert repr(FrozenOptions({"a": 1})) == "<options a>"


def test_several_brokers():
    made = settings(AMQP_URI=f"{URI}; pyamqp://other//")
    assert made.uris == (URI, "pyamqp://other//")
    assert made.masked_uri == "pyamqp://user:********@broker.example:5672/vhost;pyamqp://other//"
    with pytest.raises(ConfigurationError, match="redis"):
        settings(AMQP_URI=f"{URI};redis://x")


@pytest.mark.parametrize(
    ("uri", "warned"),
    [
        ("pyamqp://guest:guest@broker.example//", True),
        ("pyamqp://broker.example//", True),
        ("pyamqp://guest:guest@localhost//", False),
        ("pyamqp://guest:guest@127.0.0.1//", False),
        ("pyamqp://me:pw@broker.example//", False),
        ("memory://broker.example", False),
    ],
)
def test_guest_elsewhere_is_warned_of(uri, warned, caplog):
    AmqpSettings.from_config({"AMQP_URI": uri})
    assert ("as `guest`" in caplog.text) is warned
