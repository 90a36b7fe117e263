"""Calls the parrot with grpcio, as anybody would; prints what came back, as JSON."""

import json
import sys

import grpc
from parrot_pb2 import Saying
from parrot_pb2_grpc import parrotStub

with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    parrot = parrotStub(channel)
    sayings = [Saying(text=text) for text in ("who", "goes", "there")]
    heard = {
        "unary": parrot.repeat(Saying(text="ha", times=2), timeout=20).text,
        "stream out": [saying.times for saying in parrot.repeat_often(Saying(text="ha", times=3), timeout=20)],
        "stream in": parrot.join(iter(sayings), timeout=20).text,
        "stream both": [saying.text for saying in parrot.each(iter(sayings), timeout=20)],
        "metadata": parrot.repeat(Saying(text="whose?"), metadata=[("x-nameko-language", '"de"')], timeout=20).text,
    }
    try:
        parrot.repeat(Saying(), timeout=20)
    except grpc.RpcError as error:
        heard["error"] = [error.code().name, error.details()]
print(json.dumps(heard))
