from tuner.search.importance import Importance, PacedImportance


def test_what_was_answered_lately_is_not_asked_again() -> None:
    answers: list[Importance] = [{}, {"a": 1.0}, {"a": 0.5}]
    asked = list(answers)
    paced = PacedImportance(lambda: asked.pop(0))

    assert [paced.if_due() for _ in range(4)] == [{}, {"a": 1.0}, {}, {}]
    assert asked == [{"a": 0.5}]
