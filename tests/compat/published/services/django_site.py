"""A Django application in one file, served with a thread for each request."""

import logging
import os
import sys
from wsgiref.simple_server import WSGIRequestHandler

from django.conf import settings
from django.core.servers.basehttp import ThreadedWSGIServer
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    NAMEKO_CONFIG={
        "default": {"AMQP_URI": os.environ["AMQP_URI"], "HEARTBEAT": 2, "POOL_SIZE": 2, "POOL_TIMEOUT": 20},
        "german": {"POOL_CONTEXT_DATA": {"language": "de"}},
    },
)

import django_nameko  # noqa: E402


def greet(request, visitor):
    with django_nameko.get_pool(request.GET.get("pool", "default")).next() as rpc:
        rpc._rpc._worker_ctx.data["user_id"] = 7  # of this request alone, as its pool's context data comes back
        answer = rpc.greeter.greet(visitor)
    return HttpResponse(answer)


def visit(request, visitor):
    django_nameko.dispatch("website", "visited", visitor)
    return HttpResponse("welcome")


urlpatterns = [path("greet/<visitor>", greet), path("visit/<visitor>", visit)]

if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    server = ThreadedWSGIServer(("127.0.0.1", int(sys.argv[1])), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    server.serve_forever()
