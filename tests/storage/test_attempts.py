import threading
from collections import Counter

from tests.bench import Bench, small_study
from tuner.home import Home
from tuner.storage.attempts import ClaimedSlot, Ledger
from tuner.storage.opening import open_database
from tuner.training.plan import Outcome


def claim(ledger: Ledger, slots: int = 3) -> ClaimedSlot | None:
    return ledger.claim(slots, ready=lambda _slot: True, takes_queued=lambda _slot: True)


def test_slots_are_claimed_in_order_and_once(each_bench: Bench) -> None:
    ledger = each_bench.ledger(small_study(), each_bench.member(small_study()))

    claimed = [claim(ledger), claim(ledger), claim(ledger), claim(ledger)]

    assert [each.slot for each in claimed if each] == [0, 1, 2]
    assert claimed[3] is None


def test_a_slot_handed_back_is_claimed_again_as_the_next_attempt(each_bench: Bench) -> None:
    ledger = each_bench.ledger(small_study(), each_bench.member(small_study()))
    first = claim(ledger)
    assert first is not None

    ledger.close(first.uid, Outcome.INTERRUPTED)
    second = claim(ledger)

    assert second is not None
    assert (second.slot, second.number, second.predecessor) == (0, 1, first.uid)
    ledger.close(second.uid, Outcome.COMPLETED)
    third = claim(ledger)
    assert third is not None
    assert third.slot == 1


def test_an_attempt_is_closed_once(each_bench: Bench) -> None:
    ledger = each_bench.ledger(small_study(), each_bench.member(small_study()))
    first = claim(ledger)
    assert first is not None

    assert ledger.close(first.uid, Outcome.COMPLETED)
    assert not ledger.close(first.uid, Outcome.LOST)
    assert [attempt.outcome for attempt in ledger.attempts()] == ["completed"]


def test_queued_configurations_go_to_new_slots_in_order(each_bench: Bench) -> None:
    ledger = each_bench.ledger(small_study(), each_bench.member(small_study()))
    ledger.enqueue({"learning_rate": 0.1})
    ledger.enqueue({"learning_rate": 0.2})
    assert ledger.queued() == 2

    claims = [claim(ledger) for _ in range(3)]

    assert [each.queued for each in claims if each] == [
        {"learning_rate": 0.1}, {"learning_rate": 0.2}, {},
    ]  # fmt: skip
    assert ledger.queued() == 0


def test_concurrent_claims_never_share_a_slot(each_bench: Bench) -> None:
    driver = each_bench.member(small_study())
    for number in range(60):
        each_bench.ledger(small_study()).enqueue({"learning_rate": 0.001 + number / 10_000})
    claimed: list[ClaimedSlot] = []

    def take(home: Home) -> None:
        with open_database(home) as database:
            ledger = Ledger(database, "small", driver)
            while (each := claim(ledger, slots=60)) is not None:
                claimed.append(each)

    threads = [threading.Thread(target=take, args=(each_bench.home,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(each.slot for each in claimed) == Counter(range(60))
    assert len({each.queued["learning_rate"] for each in claimed}) == 60
