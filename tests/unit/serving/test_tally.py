from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from onceserve_serving.tally import Count, Distribution, Distributions

BOUNDS = (0.5, 1.0, 2.5)


@given(st.lists(st.floats(0, 4) | st.sampled_from(BOUNDS)), st.lists(st.sampled_from(["a", "b"])))
def test_it_exposes_what_the_librarys_own_metrics_would(values: list[float], labels: list[str]) -> None:
    disable_created_metrics()
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    count, counter = Count("c", "Count.", ours, ("l",)), Counter("c", "Count.", ("l",), registry=theirs)
    distribution = Distribution("d", "Values.", ours, BOUNDS)
    histogram = Histogram("d", "Values.", buckets=BOUNDS, registry=theirs)
    by_label = Distributions("b", "By label.", ours, BOUNDS, "l")
    labelled = Histogram("b", "By label.", ("l",), buckets=BOUNDS, registry=theirs)
    plain, plainly = Count("p", "Plain.", ours), Counter("p", "Plain.", registry=theirs)
    for value in values:
        distribution.observe(value)
        histogram.observe(value)
    for label in labels:
        count.inc(label)
        counter.labels(label).inc()
        by_label.observe(label, len(values))
        labelled.labels(label).observe(len(values))
        plain.inc(by=2)
        plainly.inc(2)
    assert generate_latest(ours) == generate_latest(theirs)
