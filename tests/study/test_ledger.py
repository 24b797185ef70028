import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import update

from tests.study.conftest import Bench, ScriptedPool
from tuner.home import Home
from tuner.spec.study import StudySpec
from tuner.study.database import open_database
from tuner.study.ledger import Claim, Ledger
from tuner.study.processes import this_process
from tuner.study.recovery import recover
from tuner.study.tables import attempts

Spec = Callable[..., StudySpec]


def claim(ledger: Ledger, slots: int = 3) -> Claim | None:
    return ledger.claim(slots, ready=lambda _slot: True, takes_queued=lambda _slot: True)


def test_slots_are_claimed_in_order_and_once(each_bench: Bench, study_spec: Spec) -> None:
    each_bench.record(study_spec())
    ledger = each_bench.ledger(study_spec())

    claimed = [claim(ledger), claim(ledger), claim(ledger), claim(ledger)]

    assert [each.slot for each in claimed if each] == [0, 1, 2]
    assert claimed[3] is None


def test_a_slot_handed_back_is_claimed_again_as_the_next_attempt(
    each_bench: Bench, study_spec: Spec
) -> None:
    each_bench.record(study_spec())
    ledger = each_bench.ledger(study_spec())
    first = claim(ledger)
    assert first is not None

    ledger.close(first.uid, "interrupted")
    second = claim(ledger)

    assert second is not None
    assert (second.slot, second.number, second.predecessor) == (0, 1, first.uid)
    ledger.close(second.uid, "completed")
    third = claim(ledger)
    assert third is not None
    assert third.slot == 1


def test_an_attempt_is_closed_once(each_bench: Bench, study_spec: Spec) -> None:
    each_bench.record(study_spec())
    ledger = each_bench.ledger(study_spec())
    first = claim(ledger)
    assert first is not None

    assert ledger.close(first.uid, "completed")
    assert not ledger.close(first.uid, "lost")
    assert [attempt.outcome for attempt in ledger.attempts()] == ["completed"]


def test_points_in_line_go_to_new_slots_in_order(each_bench: Bench, study_spec: Spec) -> None:
    each_bench.record(study_spec())
    ledger = each_bench.ledger(study_spec())
    ledger.enqueue({"learning_rate": 0.1})
    ledger.enqueue({"learning_rate": 0.2})
    assert ledger.queued() == 2

    claims = [claim(ledger) for _ in range(3)]

    assert [each.queued for each in claims if each] == [
        {"learning_rate": 0.1}, {"learning_rate": 0.2}, {},
    ]  # fmt: skip
    assert ledger.queued() == 0


def test_many_claimants_never_share_a_slot(each_bench: Bench, study_spec: Spec) -> None:
    each_bench.record(study_spec())
    claimed: list[Claim] = []

    def take(home: Home) -> None:
        with open_database(home) as database:
            ledger = Ledger(database, "small")
            while (each := claim(ledger, slots=60)) is not None:
                claimed.append(each)

    threads = [threading.Thread(target=take, args=(each_bench.home,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(each.slot for each in claimed) == Counter(range(60))


def test_what_a_dead_driver_left_open_is_handed_back(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    _abandon_first_attempt(bench, study_spec())

    summary = bench.run(study_spec(), scripted())

    assert summary.counts["completed"] == len(summary.trials) == 6
    outcomes = [each.outcome for each in bench.ledger(study_spec()).attempts() if each.slot == 0]
    assert outcomes == ["interrupted", "completed"]


def test_a_row_that_was_told_is_closed_as_it_was_told(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(trials=1), scripted())
    _disown(bench, outcome=None)
    spec = study_spec(trials=1)

    handed_back = recover(
        bench.home, spec.name, bench.trials(spec), bench.ledger(spec), bench.journal(spec)
    )

    assert handed_back == 0
    assert [each.outcome for each in bench.ledger(spec).attempts()] == ["completed"]


def test_a_driver_on_another_host_is_left_alone(bench: Bench, study_spec: Spec) -> None:
    _abandon_first_attempt(bench, study_spec())
    with bench.database.engine.begin() as connection:
        connection.execute(update(attempts).values(host="elsewhere"))

    handed_back = recover(
        bench.home,
        "small",
        bench.trials(study_spec()),
        bench.ledger(study_spec()),
        bench.journal(study_spec()),
    )

    assert handed_back == 0
    assert bench.ledger(study_spec()).attempts()[0].outcome is None


def test_a_process_is_gone_when_its_number_belongs_to_another() -> None:
    here = this_process()

    assert not here.is_gone()
    assert replace(here, started=here.started - 1).is_gone()
    assert replace(here, boot="another").is_gone()
    assert not replace(here, host="elsewhere", boot="another").is_gone()


def _abandon_first_attempt(bench: Bench, spec: StudySpec) -> None:
    """What a driver leaves that is killed between its claim and its first event."""
    bench.record(spec)
    first = claim(bench.ledger(spec))
    assert first is not None
    bench.trials(spec).open(first)
    _disown(bench, outcome=None)


def _disown(bench: Bench, outcome: str | None) -> None:
    with bench.database.engine.begin() as connection:
        connection.execute(update(attempts).values(outcome=outcome, pid_started=1))
