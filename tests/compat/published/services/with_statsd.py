from nameko_statsd import StatsD

from nameko.rpc import rpc


class Counter:
    name = "counter"

    statsd = StatsD("local")
    switched_off = StatsD("off")

    @rpc
    @statsd.timer("adding")
    def add(self, a, b):
        self.statsd.incr("added")
        self.statsd.gauge("last", a + b)
        self.switched_off.incr("nothing")
        return a + b
