"""One module a peer: each is a script with the roles `service` and `client`, run by that peer's interpreter.

A service prints `READY` when it consumes. A client prints one line of JSON: `calls`, `seconds`, `latencies_us` (a
sample of at most 10,000), `cpu_s` of its own process.
"""
