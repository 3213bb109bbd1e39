import threading
import time

import pytest

from t2i.base.parallel import mapped


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_items_are_not_taken_far_ahead(threads):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    def slow(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    for expected, result in enumerate(mapped(slow, items(), threads)):
        assert result == expected**2
        assert len(taken) <= expected + 4 * threads + 2


def test_several_threads_work_at_once():
    barrier = threading.Barrier(3, timeout=20)
    assert list(mapped(lambda _: barrier.wait() >= 0, range(3), 3)) == [True] * 3


@pytest.mark.parametrize("threads", [1, 2])
def test_an_exception_ends_the_sequence_at_its_place(threads):
    results = mapped(lambda number: 1 // (5 - number), range(100), threads)
    assert [next(results) for _ in range(5)] == [0, 0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
