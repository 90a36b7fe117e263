"""Health of a process that hosts services: whether it lives, and whether they can serve.

Installing the distribution is enough for services with HTTP entrypoints; others are asked on an address or a Unix
socket of their own, by `nameko health` for example.
"""
