"""nameko, whichever is installed: 2.14.1, 3.0.0rc11 or this project. One script, since the API is the same."""

import sys
import warnings

warnings.simplefilter("ignore")

import eventlet  # noqa: E402

eventlet.monkey_patch()

import inspect  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from clock import Clock  # noqa: E402

from nameko.containers import ServiceContainer  # noqa: E402
from nameko.events import EventDispatcher, event_handler  # noqa: E402
from nameko.rpc import RpcProxy, rpc  # noqa: E402
from nameko.testing.services import dummy, entrypoint_hook  # noqa: E402

CONFIG_IS_GLOBAL = "config" not in inspect.signature(ServiceContainer.__init__).parameters


class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value


class Relay:
    name = "relay"

    target = RpcProxy("echo")

    @rpc
    def relay(self, value):
        return self.target.echo(value)


class Listener:
    name = "listener"

    @event_handler("driver", "happened")
    def handle(self, payload):
        pass


class Driver:
    name = "driver"

    echo = RpcProxy("echo")
    relay = RpcProxy("relay")
    dispatch = EventDispatcher()

    @dummy
    def drive(self, case, concurrency, seconds, payload):
        act = {
            "rpc": lambda: self.echo.echo(payload),
            "nested": lambda: self.relay.relay(payload),
            "events": lambda: self.dispatch("happened", payload),
        }[case]
        clock = Clock(seconds)

        def loop():
            while clock.running:
                started = time.perf_counter()
                act()
                clock.count(started)

        threads = [eventlet.spawn(loop) for _ in range(concurrency)]
        for thread in threads:
            thread.wait()
        clock.report()


SERVICES = {"rpc": [Echo], "nested": [Echo, Relay], "events": [Listener]}


def make_container(service_cls, uri):
    settings = {"AMQP_URI": uri, "max_workers": int(os.environ.get("BENCHMARK_WORKERS", "10"))}
    settings["PREFETCH_COUNT"] = settings["max_workers"]
    settings["plugins"] = {"only": ["amqp", "rpc", "events", "http", "timer"]}  # what `pip install nameko` brings
    if CONFIG_IS_GLOBAL:
        from nameko import config

        config.setup(settings)
        return ServiceContainer(service_cls)
    return ServiceContainer(service_cls, settings)


def main():
    role, case, uri, concurrency, seconds, size = sys.argv[1:7]
    if role == "service":
        containers = [make_container(service_cls, uri) for service_cls in SERVICES[case]]
        for container in containers:
            container.start()
        print("READY", flush=True)
        for container in containers:
            container.wait()
    else:
        container = make_container(Driver, uri)
        container.start()
        with entrypoint_hook(container, "drive", timeout=300) as drive:
            drive(case, int(concurrency), float(seconds), "x" * int(size))
        os._exit(0)


main()
