from nameko_cron import ConcurrencyPolicy, cron
from seen import note


class Clock:
    name = "clock"

    @cron("* * * * * *")
    def tick(self):
        note("tick")

    @cron("* * * * * */1", tz="America/Chicago", concurrency=ConcurrencyPolicy.SKIP)
    def tock(self):
        note("tock")
