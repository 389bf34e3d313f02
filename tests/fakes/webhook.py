"""A chat's webhook on loopback: what is posted there is kept, and every post is answered alike."""

import json

from tests.fakes.server import Answer, FakeServer, Request

PATH = "/services/T0/B0/only-who-knows-this-may-post"


class Webhook(FakeServer):
    """`texts` are the posts so far; `secret` is the address to post to."""

    def __init__(self, status: int = 200) -> None:
        super().__init__()
        self.status, self.texts = status, list[str]()
        self.secret = f"{self.address}{PATH}"

    def route(self, request: Request) -> Answer:
        if request.path == PATH:
            self.texts.append(json.loads(request.body)["text"])
        return self.status, {}, b""
