"""The client of the exactly-once tests sees what it is there to see."""

from http.server import BaseHTTPRequestHandler
from itertools import count

from support.loopback import LoopbackServer
from support.retries import Client, Key


class Forgetful(BaseHTTPRequestHandler):
    """Refuses first, then answers each call anew."""

    calls = count()

    def do_POST(self) -> None:
        call = next(self.calls)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if call == 0 else 200)
        self.send_header("Idempotency-Attempt", "1")
        self.end_headers()
        self.wfile.write(b"%d" % call)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_two_answers_to_one_key_are_divergent_and_refusals_are_not() -> None:
    with LoopbackServer(Forgetful) as server:
        client = Client(f"{server.url}/infer", ["{}"])
        client.keys.append(Key("a", "{}"))
        for owed in list(client.owed(2)):
            client.ask(owed)
    report = client.report()
    assert report["divergent"] == {"a": [[200, "", "", "1"], [200, "", "", "2"]]}
    assert (report["answers"], report["fewest"], report["replays"]) == (2, 2, 0)
    assert report["failures"] == {"503": 1}
    assert list(client.owed(2)) == []
