from nameko_atomicity import DispatchCommands, RollbackCommands, dispatch_after_commit, rollback_once_failed
from seen import note

from nameko.events import EventDispatcher, event_handler
from nameko.rpc import rpc


class Shop:
    name = "shop"

    dispatch = EventDispatcher()
    afterwards = DispatchCommands()
    undo = RollbackCommands()

    @rpc
    @dispatch_after_commit
    def sell(self, article, paid):
        self.afterwards.append(func=self.dispatch, args=("sold", article))
        if not paid:
            raise ValueError("not paid")

    @rpc
    @rollback_once_failed
    def reserve(self, article, available):
        self.undo.append(func=note, args=("released",), kwargs={"article": article})
        if not available:
            raise ValueError("not available")

    @event_handler("shop", "sold")
    def ship(self, article):
        note("shipped", article=article)
