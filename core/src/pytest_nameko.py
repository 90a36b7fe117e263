"""The entry point of the pytest plugin of nameko-core, `nameko.testing.pytest`.

pytest looks for what to rewrite in the distributions of its plugins, and takes the first directory of one that has
neither a module nor a package at its top level for `src/`: every test run would begin with a warning that `__main__`,
which is `nameko/__main__.py`, is imported already. So there is a module at the top level.
"""

pytest_plugins = ["nameko.testing.pytest"]
