from types import SimpleNamespace

from nameko_redis import Redis
from nameko_redis.pubsub_response_listener import PubSubResponsesListener, WaitTimeout

from nameko.rpc import rpc


def deserialize(raw):
    """A message is its key and its text; so is the value of a key."""
    key, _, text = raw.decode().partition("=")
    return key, SimpleNamespace(text=text)


class Store:
    name = "store"

    redis = Redis("TESTS")
    responses = PubSubResponsesListener(deserialize, uri_key="TESTS")

    @rpc
    def put(self, key, value):
        self.redis.set(key, value, ex=60)

    @rpc
    def get(self, key):
        value = self.redis.get(key)
        return value and value.decode()

    @rpc(expected_exceptions=WaitTimeout)
    def wait_for(self, key, timeout_s):
        return self.responses.wait_for_response(key, timeout_s).text

    @rpc
    def answer(self, key, text):
        return self.responses.publish_response(key, f"{key}={text}", max_retries=20, retry_timeout_sec=0.1)
