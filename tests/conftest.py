"""What every test can ask for: a broker of each kind, containers that are stopped afterwards, a clean configuration."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from nameko import concurrency

concurrency.monkey_patch()

RABBITMQ_HOST = os.environ.get("NAMEKO_TEST_RABBITMQ_HOST", "127.0.0.1")
RABBITMQ_PORT = int(os.environ.get("NAMEKO_TEST_RABBITMQ_PORT", "5672"))
MANAGEMENT_URL = os.environ.get("NAMEKO_TEST_MANAGEMENT_URL", f"http://guest:guest@{RABBITMQ_HOST}:15672")
