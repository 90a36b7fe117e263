from nameko_slack.rtm import handle_event, handle_message
from nameko_slack.web import Slack
from seen import note

from nameko.rpc import rpc


class Bot:
    name = "bot"

    slack = Slack()

    @handle_event(event_type="user_typing")
    def on_typing(self, event):
        note("typing", user=event["user"])

    @handle_message(message_pattern=r"add (?P<a>\d+) and (?P<b>\d+)")
    def on_sum(self, event, message, a, b):
        return f"That makes {int(a) + int(b)}."

    @rpc
    def say(self, channel, text):
        return self.slack.api_call("chat.postMessage", channel=channel, text=text)["ts"]
