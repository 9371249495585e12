from onceserve_operator.autoscaling.news import News
from onceserve_operator.autoscaling.policy import PERIOD
from onceserve_operator.domain import Scaling


def decided(of: int, replicas: int, reason: str = "Following") -> Scaling:
    return Scaling(True, reason, "words", of, replicas)


def told(news: News, *scalings: Scaling, start: float = 0) -> list[float]:
    """Return when passes are asked for by decisions a period apart."""
    times = [start + number * PERIOD for number in range(len(scalings))]
    return [at for at, scaling in zip(times, scalings, strict=True) if news.are_in(scaling, at)]


def settled(of: int = 2) -> News:
    """News of a number of pods that is as it should be, at 0."""
    news = News()
    assert told(news, *[decided(of, of)] * 3) == [0]
    return news


def test_what_is_new_is_told_once_at_once() -> None:
    assert told(settled(), decided(2, 7), *[decided(7, 7)] * 30, decided(7, 3), *[decided(3, 3)] * 30) == [0, 62]


def test_what_is_not_done_is_told_ever_more_rarely() -> None:
    assert told(settled(), *[decided(2, 7)] * 150) == [0, 2, 4, 6, 10, 18, 34, 66, 126, 186, 246]
    assert told(settled(9), *[decided(9, 7)] * 20) == [0, 2, 4, 6, 10, 18, 34]


def test_a_load_that_changes_meanwhile_hastens_nothing() -> None:
    news = settled(9)
    assert len(told(news, *[decided(9, 5 + number % 5) for number in range(150)])) <= 11


def test_more_pods_than_were_asked_for_do_not_wait() -> None:
    news = settled()
    assert told(news, *[decided(2, 7)] * 10) == [0, 2, 4, 6, 10, 18]
    assert told(news, decided(2, 12), decided(2, 7), start=20) == [20]


def test_what_was_told_and_is_wanted_no_longer_is_told_once() -> None:
    news = settled()
    assert told(news, decided(2, 7), *[decided(2, 2)] * 30) == [0, 2]


def test_after_it_was_done_the_next_does_not_wait() -> None:
    news = settled()
    told(news, *[decided(2, 7)] * 30)
    assert told(news, decided(7, 7), decided(7, 9), decided(7, 9), start=60) == [62, 64]


def test_another_reason_is_told_at_once() -> None:
    news = settled()
    assert told(news, decided(2, 2), decided(2, 2, "SamplesPartial"), decided(2, 2, "SamplesPartial")) == [2]
