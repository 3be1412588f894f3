"""How notifications reach the seller: at least once, in no promised order, to queues that may not be there yet."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Event, Thread

import pytest

from marketplace_emulator import AdminError, serve
from marketplace_emulator.delivery import Courier, parse_target

PAYG, LEGACY = "ca2payasyougoproduct00000", "legacysubscriptionproduct"
WAIT = 20


def delivered(emulator):
    return [item.notification.name.split(" - ")[0] for item in emulator.m.outbox.deliveries()]


def test_without_rules_every_notification_is_delivered_once_in_order(emulator):
    purchase = emulator.buy()
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(31)
    assert [item.notification.body for item in emulator.m.outbox.deliveries()] == [
        item.body for item in emulator.m.outbox.notifications()
    ]


def test_a_repeated_delivery_is_the_same_message(emulator):
    emulator.m.outbox.add_rules([{"do": "repeat", "match": "License Updated*", "times": 2}])
    emulator.buy()
    assert delivered(emulator) == ["Purchase Agreement Created"] + ["License Updated"] * 3
    assert len({item.notification.body["id"] for item in emulator.m.outbox.deliveries()}) == 2
    assert len(emulator.m.outbox.notifications()) == 2


def test_a_delayed_delivery_comes_by_the_clock(emulator):
    emulator.m.outbox.add_rules([{"do": "delay", "match": "Purchase Agreement Created*", "seconds": 90}])
    emulator.buy()
    assert delivered(emulator) == ["License Updated"]
    emulator.clock.advance(90)
    assert delivered(emulator) == ["License Updated", "Purchase Agreement Created"]


def test_a_dropped_delivery_never_comes(emulator):
    emulator.m.outbox.add_rules([{"do": "drop", "match": "License*", "limit": 1}])
    purchase = emulator.buy()
    emulator.m.purchases.cancel(purchase.id)
    emulator.clock.advance(31)
    assert delivered(emulator) == ["Purchase Agreement Created", "Purchase Agreement Ended", "License Deprovisioned"]


@pytest.mark.parametrize(
    ("rules", "release", "copies"),
    [
        ([{"do": "hold"}, {"do": "repeat", "times": 1}], "release", 2),
        ([{"do": "hold"}], "clear_rules", 1),
        ([{"do": "reorder", "window": 100, "seed": 3}], "release", 1),
    ],
)
def test_what_rules_keep_comes_when_it_is_released_or_the_rules_are_dropped(emulator, rules, release, copies):
    emulator.m.outbox.add_rules(rules)
    emulator.buy()
    assert delivered(emulator) == []
    assert getattr(emulator.m.outbox, release)() in (2, None)
    assert sorted(delivered(emulator)) == ["License Updated"] * copies + ["Purchase Agreement Created"] * copies


def test_a_reordered_window_is_the_same_for_the_same_seed(emulator):
    def order(seed):
        emulator.m.reset()
        emulator.m.outbox.add_rules([{"do": "reorder", "window": 6, "seed": seed}])
        for _ in range(3):
            emulator.buy()
        seqs = [item.notification.seq for item in emulator.m.outbox.deliveries()]
        assert sorted(seqs) == [1, 2, 3, 4, 5, 6]
        return seqs

    assert order(1) == order(1)
    assert any(order(seed) != [1, 2, 3, 4, 5, 6] for seed in range(3))


@pytest.mark.parametrize("rule", ["after_registration", "before_registration"])
def test_deliveries_can_wait_for_the_registration_or_come_just_before_it(emulator, rule):
    emulator.m.outbox.add_rules([{"do": rule}])
    purchase = emulator.buy()
    assert delivered(emulator) == []
    token = emulator.m.registration_token(purchase.id)
    if rule == "after_registration":
        assert delivered(emulator) == []
        emulator.call("AWSMPMeteringService.ResolveCustomer", RegistrationToken=token)
    assert delivered(emulator) == ["Purchase Agreement Created", "License Updated"]
    emulator.m.purchases.cancel(purchase.id)
    assert delivered(emulator)[2:] == ["Purchase Agreement Ended"]


@pytest.mark.parametrize(
    "rule", [{}, {"do": "burn"}, {"do": "hold", "until": "noon"}, {"do": "delay", "seconds": -1}, "hold"]
)
def test_a_rule_that_makes_no_sense_is_refused(emulator, rule):
    with pytest.raises(AdminError):
        emulator.m.outbox.add_rules([rule])


# -- queues -------------------------------------------------------------------------------------------------


class FakeQueue:
    """An SQS endpoint that keeps what it is sent, and refuses while `missing`."""

    def __init__(self):
        self.messages = Queue()
        self.refused = Event()
        self.missing = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = b'{"MessageId": "m"}'
                self.send_response(400 if fake.missing else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                if fake.missing:
                    fake.refused.set()
                else:
                    fake.messages.put((self.headers, body))

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def next(self):
        return self.messages.get(timeout=WAIT)


@pytest.fixture
def queue():
    fake = FakeQueue()
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


@pytest.fixture
def courier(emulator, queue):
    couriers = []

    def start(**target):
        made = Courier(emulator.m, parse_target({"queue_url": f"{queue.url}/123456789012/events", **target}))
        couriers.append(made)
        return made

    yield start
    for item in couriers:
        item.stop()


def test_events_reach_the_queue_as_sqs_messages(emulator, queue, courier):
    courier()
    emulator.m.purchases.subscribe(PAYG)
    headers, body = queue.next()
    assert headers["X-Amz-Target"] == "AmazonSQS.SendMessage"
    assert "/us-east-1/sqs/aws4_request" in headers["Authorization"]
    assert body["QueueUrl"].endswith("/123456789012/events")
    assert json.loads(body["MessageBody"]) == emulator.m.outbox.notifications()[0].body


def test_moving_the_clock_delivers_what_became_due(emulator, queue, courier):
    courier()
    emulator.m.purchases.subscribe(PAYG)
    queue.next()
    emulator.clock.advance(61)
    emulator.m.agenda.settle()
    assert json.loads(queue.next()[1]["MessageBody"])["detail-type"] == "License Updated - Manufacturer"


def test_a_queue_that_is_not_there_yet_is_tried_again(emulator, queue, courier):
    queue.missing = True
    running = courier()
    emulator.buy()
    assert queue.refused.wait(WAIT)
    queue.missing = False
    names = [json.loads(queue.next()[1]["MessageBody"])["detail-type"] for _ in range(2)]
    assert names == emulator.names()
    while running.target.delivered < 2:
        emulator.m.agenda.settle()
    assert running.target.last_error == ""


def test_a_host_that_is_not_there_holds_nobody_up(emulator):
    courier = Courier(emulator.m, parse_target({"queue_url": "http://127.0.0.1:9/q"}))
    emulator.buy()
    while not courier.target.last_error:
        emulator.m.agenda.settle()
    courier.stop()
    assert courier.target.delivered == 0


def test_a_queue_can_take_one_kind_only(emulator, queue, courier):
    courier(kinds=["sns"])
    emulator.buy(PAYG)
    emulator.buy(LEGACY, "444455556666")
    assert json.loads(queue.next()[1]["MessageBody"])["Type"] == "Notification"


def test_a_target_added_over_the_admin_api_can_skip_the_past(emulator, queue):
    emulator.buy()
    with serve(emulator.m) as server:
        server.admin.add_target(parse_target({"queue_url": f"{queue.url}/q", "after": 2}))
        emulator.m.purchases.subscribe(PAYG)
        assert json.loads(queue.next()[1]["MessageBody"]) == emulator.m.outbox.notifications()[2].body


def test_after_a_reset_the_targets_get_the_new_messages(emulator, queue, courier):
    courier()
    emulator.m.purchases.subscribe(PAYG)
    queue.next()
    emulator.m.reset()
    emulator.m.purchases.subscribe(PAYG)
    assert json.loads(queue.next()[1]["MessageBody"]) == emulator.m.outbox.notifications()[0].body


@pytest.mark.parametrize("target", [{}, {"queue_url": "nowhere"}, {"queue_url": "http://h/q", "kinds": ["fax"]}, 5])
def test_a_target_that_makes_no_sense_is_refused(target):
    with pytest.raises(AdminError):
        parse_target(target)
