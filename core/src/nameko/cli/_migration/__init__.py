"""What in a service written for nameko 2.14 is different under this version: in its source, configuration, classes."""

from nameko.cli._migration._configuration import check_configuration
from nameko.cli._migration._finding import Difference, Finding, Severity
from nameko.cli._migration._modules import import_modules
from nameko.cli._migration._services import check_services
from nameko.cli._migration._sources import check_source, project_files

__all__ = [
    "Difference",
    "Finding",
    "Severity",
    "check_configuration",
    "check_services",
    "check_source",
    "import_modules",
    "project_files",
]
