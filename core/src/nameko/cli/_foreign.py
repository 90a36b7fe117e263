"""A `nameko/__init__.py` beside ours: what it means and what to do about it."""

from __future__ import annotations

import os


def describe_foreign_package(init_file: str | None) -> str:
    """What to tell someone whose environment holds an older nameko too, which hides parts of this one."""
    owners = _owners_of_init_file()
    uninstall = " ".join(owners) or "the distribution that it belongs to"
    return (
        f"{init_file} makes `nameko` an ordinary package, which hides the distributions of nameko 3 from each other; "
        f"uninstall {uninstall} and reinstall nameko 3: pip uninstall {' '.join(owners) or '...'}; "
        "pip install --force-reinstall nameko-core"
    )


def _owners_of_init_file() -> list[str]:
    import importlib_metadata

    init_file = os.path.join("nameko", "__init__.py")
    return sorted(
        {
            distribution.metadata["Name"]
            for distribution in importlib_metadata.distributions()
            if any(str(path) == init_file for path in distribution.files or ())
        }
    )
