"""Images that arrive together are computed together, each gets its own answer, and nobody waits for ever."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from resattn.errors import ResattnError
from resattn.serving.batching import Answer, Batcher
from resattn.serving.limits import Limits
from resattn.serving.refusals import Refusal

SIDE = 32


def one_colour(channel: int, strength: int = 200) -> np.ndarray:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[..., channel] = strength
    return image


def run(work: Callable[[Batcher], Awaitable[Any]], runtime: Any, **limits: Any) -> Any:
    """What `work` returns with a batcher that is closed afterwards."""

    async def whole() -> Any:
        batcher = Batcher(runtime, Limits(**limits))
        batcher.start()
        try:
            return await asyncio.wait_for(work(batcher), 20)
        finally:
            await asyncio.to_thread(batcher.close)

    return asyncio.run(whole())


def test_what_arrives_together_is_one_batch_and_each_gets_its_own(fake_runtime) -> None:
    runtime = fake_runtime()

    async def work(batcher: Batcher) -> list[Answer]:
        return await asyncio.gather(*(batcher.submit(one_colour(k % 3), masks=False) for k in range(7)))

    answers = run(work, runtime, gather_seconds=0.5, batch=7)
    assert runtime.batches == [7]
    assert [int(answer.probabilities.argmax()) for answer in answers] == [k % 3 for k in range(7)]
    assert all(answer.probabilities.sum() == pytest.approx(1, abs=1e-5) for answer in answers)
    assert all(answer.masks == {} for answer in answers)


def test_a_batch_is_never_larger_than_the_limit_and_keeps_the_order(fake_runtime) -> None:
    runtime = fake_runtime()
    order: list[int] = []

    async def work(batcher: Batcher) -> None:
        async def one(k: int) -> None:
            await batcher.submit(one_colour(k % 3), masks=False)
            order.append(k)

        await asyncio.gather(*(one(k) for k in range(11)))

    run(work, runtime, gather_seconds=0.2, batch=4)
    assert runtime.batches == [4, 4, 3]
    assert order == list(range(11))


def test_a_lone_image_does_not_wait_for_company(fake_runtime) -> None:
    async def work(batcher: Batcher) -> float:
        begun = time.perf_counter()
        await batcher.submit(one_colour(0), masks=False)
        return time.perf_counter() - begun

    assert run(work, fake_runtime(), gather_seconds=0.001) < 1


def test_what_came_during_a_batch_waits_no_longer(fake_runtime) -> None:
    runtime = fake_runtime()
    runtime.go.clear()

    async def work(batcher: Batcher) -> float:
        first = batcher.submit(one_colour(0), masks=False)
        await asyncio.sleep(0.7)  # the gathering time of the first, and of the second
        second = batcher.submit(one_colour(1), masks=False)
        await asyncio.sleep(0.6)
        runtime.go.set()
        begun = time.perf_counter()
        await asyncio.gather(first, second)
        return time.perf_counter() - begun

    assert run(work, runtime, gather_seconds=0.5) < 0.4
    assert runtime.batches == [1, 1]


def test_who_gave_up_is_not_computed(fake_runtime) -> None:
    runtime = fake_runtime()
    runtime.go.clear()

    async def work(batcher: Batcher) -> None:
        first = batcher.submit(one_colour(0), masks=False)
        await asyncio.sleep(0.1)
        rest = [batcher.submit(one_colour(1), masks=False) for _ in range(3)]
        rest[0].cancel()
        rest[2].cancel()
        runtime.go.set()
        await asyncio.gather(first, rest[1])

    run(work, runtime, gather_seconds=0.01)
    assert runtime.batches == [1, 1]


@pytest.mark.parametrize("failure", [ResattnError("broken"), RuntimeError("no memory")])
def test_a_failure_hits_its_batch_only(fake_runtime, failure: Exception) -> None:
    runtime = fake_runtime()

    async def work(batcher: Batcher) -> None:
        runtime.failure = failure
        with pytest.raises(type(failure)):
            await batcher.submit(one_colour(0), masks=False)
        runtime.failure = None
        await batcher.submit(one_colour(0), masks=False)

    run(work, runtime)


def test_closing_computes_what_waits(fake_runtime) -> None:
    runtime = fake_runtime()
    runtime.go.clear()

    async def work() -> list[Answer]:
        batcher = Batcher(runtime, Limits(gather_seconds=0.01, batch=2))
        batcher.start()
        waiting = [batcher.submit(one_colour(k % 3), masks=False) for k in range(5)]
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.1)
        assert not closing.done()
        runtime.go.set()
        await closing
        return await asyncio.gather(*waiting)

    assert len(asyncio.run(work())) == 5
    assert not any(thread.name == "resattn-batches" for thread in threading.enumerate())


def test_masks_are_the_mean_over_channels_for_who_asked(fake_runtime) -> None:
    async def work(batcher: Batcher) -> list[Answer]:
        return await asyncio.gather(
            *(batcher.submit(one_colour(0, 51), masks=masks) for masks in (True, False))
        )

    with_masks, without = run(work, fake_runtime(), gather_seconds=0.5, batch=2)
    assert without.masks == {}
    assert with_masks.masks["stage1.0"].shape == (8, 8)
    assert np.allclose(with_masks.masks["stage1.0"], 0.2)


def test_places_are_limited_and_given_back(fake_runtime) -> None:
    async def work(batcher: Batcher) -> None:
        batcher.warm_up()
        with batcher.places(2), batcher.places(1):
            with (
                pytest.raises(Refusal, match="the queue is full: 3 of its 4 places") as caught,
                batcher.places(2),
            ):
                pass
            assert caught.value.status == 429
            assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
            assert batcher.taken == 3
        assert batcher.taken == 0

    run(work, fake_runtime(), queue=4, images=4)


def test_a_network_that_gives_no_numbers_is_told_before_it_serves(fake_runtime) -> None:
    class Broken(fake_runtime):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.full((len(images), 3), np.nan, np.float32)

    with pytest.raises(ResattnError, match="not finite"):
        Batcher(Broken(), Limits()).warm_up()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"queue": 0}, "queue is 0"),
        ({"answer_seconds": -1.0}, "answer_seconds is -1"),
        ({"pixels": 10**9}, "pixels is 1,000,000,000"),
        ({"queue": 8}, "32 images, and the queue only 8"),
        ({"held_bytes": 1}, "all together 1"),
    ],
)
def test_limits_are_checked(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ResattnError, match=said):
        Limits(**limits)


def test_masks_are_computed_of_the_images_they_are_asked_of(fake_runtime) -> None:
    async def work(batcher: Batcher) -> list[Answer]:
        return await asyncio.gather(*(batcher.submit(one_colour(k), masks=k == 1) for k in range(3)))

    runtime = fake_runtime()
    answers = run(work, runtime, gather_seconds=0.5, batch=3)
    assert runtime.batches == [2, 1]
    assert [bool(answer.masks) for answer in answers] == [False, True, False]
    assert [int(answer.probabilities.argmax()) for answer in answers] == [0, 1, 2]
