"""Serves the same nameko service, its WSGI application on eventlet.wsgi: run as `eventlet_wsgi_app.py PORT`."""

import sys

import eventlet

eventlet.monkey_patch()

import eventlet.wsgi  # noqa: E402
from nameko_app import Service  # noqa: E402

from nameko.containers import ServiceContainer  # noqa: E402
from nameko.web.server import WebServer, WsgiApp  # noqa: E402

if __name__ == "__main__":
    config = {"WEB_SERVER_ADDRESS": "127.0.0.1:0", "max_workers": 100}
    config["plugins"] = {"only": ["amqp", "rpc", "events", "http", "timer"]}  # what `pip install nameko` brings
    container = ServiceContainer(Service, config)
    container.start()
    (server,) = (each for each in container.shared_extensions.values() if isinstance(each, WebServer))
    sock = eventlet.listen(("127.0.0.1", int(sys.argv[1])), backlog=2048)
    eventlet.wsgi.server(sock, WsgiApp(server), log_output=False, max_size=2000)
