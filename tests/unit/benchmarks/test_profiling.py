from benchmarks.profiling import top


def test_lines_of_a_function_add_up_and_recursion_counts_once() -> None:
    text = top(["main (a.py:1);work (a.py:5) 6", "main (a.py:2);work (a.py:7);work (a.py:7) 2", "main (a.py:3) 2"])

    assert text.splitlines() == [
        "     own      whole  function",
        "  80.0 %    80.0 %  work (a.py)",
        "  20.0 %   100.0 %  main (a.py)",
    ]


def test_a_thread_that_waits_for_work_does_none() -> None:
    text = top(["InferenceThread._work (thread.py:5) 90", "InferenceThread._work (thread.py:5);run (ort.py:1) 10"])

    assert text.splitlines()[1] == " 100.0 %   100.0 %  run (ort.py)"


def test_no_samples_are_an_empty_table() -> None:
    assert top([]).splitlines() == ["     own      whole  function"]
