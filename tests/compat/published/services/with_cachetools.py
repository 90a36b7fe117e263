from nameko_cachetools import CachedRpcProxy, CacheFirstRpcProxy
from seen import note

from nameko.dependency_providers import Config
from nameko.rpc import rpc


class Archive:
    name = "archive"

    @rpc
    def find(self, key):
        note("asked", key=key)
        return f"found {key}"

    @rpc
    def fail(self, key):
        raise KeyError(key)


class Flaky:
    """Answers the first time."""

    name = "flaky"

    config = Config()

    @rpc
    def find(self, key):
        note("asked", key=key)
        with open(self.config["ASKED_BEFORE"], "a+") as marks:
            marks.seek(0)
            asked_before = key in marks.read().split()
            marks.write(f"{key}\n")
        if asked_before:
            raise ValueError("only once")
        return f"found {key}"


class Reader:
    name = "reader"

    archive = CacheFirstRpcProxy("archive")
    flaky = CachedRpcProxy("flaky", failover_timeout=5)

    @rpc
    def read(self, key):
        return self.archive.find(key)

    @rpc
    def read_missing(self, key):
        return self.archive.fail(key)

    @rpc
    def read_flaky(self, key):
        return self.flaky.find(key)
