"""One service calls another: `nameko run examples.rpc_services`, and then `python examples/rpc_client.py`."""

from nameko.rpc import RpcProxy, rpc


class ServiceY:
    name = "service_y"

    @rpc
    def append_identifier(self, value):
        return f"{value}-y"


class ServiceX:
    name = "service_x"

    y = RpcProxy("service_y")

    @rpc
    def remote_method(self, value):
        res = f"{value}-x"
        return self.y.append_identifier(res)
