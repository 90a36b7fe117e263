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

from clock import Clock, Handled  # noqa: E402

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
        handled.count()


handled = Handled()


def echo_names(services):
    return ["echo"] if services == 1 else [f"echo{number}" for number in range(services)]


class Driver:
    name = "driver"

    relay = RpcProxy("relay")
    dispatch = EventDispatcher()

    @dummy
    def drive(self, case, concurrency, seconds, payload, services):
        acts = {
            "rpc": [getattr(self, name).echo for name in echo_names(services)],
            "nested": [self.relay.relay],
            "events": [lambda payload: self.dispatch("happened", payload)],
        }[case]
        clock = Clock(seconds)

        def loop(act):
            while clock.running:
                started = time.perf_counter()
                act(payload)
                clock.count(started)

        threads = [eventlet.spawn(loop, acts[number % len(acts)]) for number in range(concurrency)]
        for thread in threads:
            thread.wait()
        clock.report()


def services_for(case, services):
    echoes = [type("Echo", (Echo,), {"name": name}) for name in echo_names(services)]
    return {"rpc": echoes, "nested": [Echo, Relay], "events": [Listener]}[case]


def driver_for(services):
    return type("Driver", (Driver,), {name: RpcProxy(name) for name in echo_names(services)})


def make_container(service_cls, uri, workers):
    settings = {"AMQP_URI": uri, "max_workers": workers, "PREFETCH_COUNT": workers}
    settings["plugins"] = {"only": ["amqp", "rpc", "events", "http", "timer"]}  # what `pip install nameko` brings
    if CONFIG_IS_GLOBAL:
        from nameko import config

        config.setup(settings)
        return ServiceContainer(service_cls)
    return ServiceContainer(service_cls, settings)


def main():
    role, case, uri, concurrency, seconds, size, services, workers = sys.argv[1:9]
    if role == "service":
        containers = [
            make_container(service_cls, uri, int(workers)) for service_cls in services_for(case, int(services))
        ]
        for container in containers:
            container.start()
        print("READY", flush=True)
        for container in containers:
            container.wait()
    else:
        container = make_container(driver_for(int(services)), uri, int(workers))
        container.start()
        with entrypoint_hook(container, "drive", timeout=300) as drive:
            drive(case, int(concurrency), float(seconds), "x" * int(size), int(services))
        os._exit(0)


main()
