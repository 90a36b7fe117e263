"""What a service sees goes to a file that the test reads."""

import json
import os


def note(what, **details):
    """Append a line of JSON, whole, whichever process does it."""
    line = json.dumps({"what": what, **details}) + "\n"
    log_fd = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log_fd, line.encode())
    os.close(log_fd)
