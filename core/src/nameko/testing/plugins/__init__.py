"""The test kit for authors of plugins and extensions.

- `install_distribution` makes a throw-away distribution, found through its entry points, for the length of a block.
- `run_service` runs a service with exactly the plugins that are named.
- `HookRecorder` is a plugin that keeps what hooks were called with.
- `no_leaks` finds the greenthreads and file descriptors that a block has left behind.
- `EntrypointConformance`, `DependencyProviderConformance`, `SharedExtensionConformance` and `PluginConformance` are
  tests to inherit: what nameko asks of each kind of extension.

Nothing here needs pytest, and nothing needs a broker.
"""

from nameko.testing.plugins._dependency_conformance import DependencyProviderConformance
from nameko.testing.plugins._distribution import install_distribution, write_distribution
from nameko.testing.plugins._entrypoint_conformance import EntrypointConformance
from nameko.testing.plugins._extension_conformance import ExtensionConformance, SharedExtensionConformance
from nameko.testing.plugins._leaks import no_leaks
from nameko.testing.plugins._plugin_conformance import PluginConformance
from nameko.testing.plugins._recorder import HookCall, HookRecorder
from nameko.testing.plugins._running import plugin_manager, run_service
from nameko.testing.plugins._waiting import wait_until

__all__ = [
    "DependencyProviderConformance",
    "EntrypointConformance",
    "ExtensionConformance",
    "HookCall",
    "HookRecorder",
    "PluginConformance",
    "SharedExtensionConformance",
    "install_distribution",
    "no_leaks",
    "plugin_manager",
    "run_service",
    "wait_until",
    "write_distribution",
]
