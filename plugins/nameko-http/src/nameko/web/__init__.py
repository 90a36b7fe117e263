"""HTTP for nameko. Import from `nameko.web.handlers`, `nameko.web.server` and `nameko.web.websocket`."""
