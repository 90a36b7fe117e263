from nameko_structlog import StructlogDependency

from nameko.rpc import rpc


class Writer:
    name = "writer"

    log = StructlogDependency()

    @rpc
    def write(self, text):
        self.log.info(text, length=len(text))
