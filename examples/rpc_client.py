"""Calls the services of `rpc_services.py` from outside: `python examples/rpc_client.py [AMQP_URI]`."""

import sys

from nameko.standalone.rpc import ClusterRpcProxy

config = {"AMQP_URI": sys.argv[1] if len(sys.argv) > 1 else "pyamqp://guest:guest@localhost"}

with ClusterRpcProxy(config) as cluster_rpc:
    print(cluster_rpc.service_x.remote_method("hellø"))  # "hellø-x-y"

with ClusterRpcProxy(config) as cluster_rpc:
    hello_res = cluster_rpc.service_x.remote_method.call_async("hello")
    world_res = cluster_rpc.service_x.remote_method.call_async("world")
    # do work while waiting
    print(hello_res.result())  # "hello-x-y"
    print(world_res.result())  # "world-x-y"
