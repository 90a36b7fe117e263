"""Pytest plugin of the core: fixtures for containers and runners."""
