from grpc import StatusCode
from nameko_grpc.dependency_provider import GrpcProxy
from nameko_grpc.entrypoint import Grpc
from parrot_pb2 import Saying
from parrot_pb2_grpc import parrotStub

from nameko import config
from nameko.extensions import DependencyProvider
from nameko.rpc import rpc

grpc = Grpc.implementing(parrotStub)


class Context(DependencyProvider):
    def get_dependency(self, worker_ctx):
        return worker_ctx


class Parrot:
    name = "parrot"

    worker_ctx = Context()

    @grpc
    def repeat(self, request, context):
        if not request.text:
            context.set_code(StatusCode.INVALID_ARGUMENT)
            context.set_message("nothing to repeat")
        if request.text == "whose?":
            return Saying(text=self.worker_ctx.context_data["language"])
        return Saying(text=request.text * (request.times or 1))

    @grpc
    def repeat_often(self, request, context):
        for number in range(request.times):
            yield Saying(text=request.text, times=number)

    @grpc
    def join(self, requests, context):
        return Saying(text=" ".join(request.text for request in requests))

    @grpc
    def each(self, requests, context):
        for request in requests:
            yield Saying(text=request.text.upper())


class Owner:
    """Talks to the parrot, when asked to."""

    name = "owner"

    parrot = GrpcProxy(f"//127.0.0.1:{config['GRPC_BIND_PORT']}", parrotStub)

    @rpc
    def talk(self, text, times):
        return self.parrot.repeat(Saying(text=text, times=times)).text

    @rpc
    def listen(self, text, times):
        return [saying.times for saying in self.parrot.repeat_often(Saying(text=text, times=times))]
