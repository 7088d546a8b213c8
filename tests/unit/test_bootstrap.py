"""Bootstrap intervals against the normal approximation, constants, and resampling by hand."""

import numpy as np
import pytest

from asym_lightning.metrics.bootstrap import bootstrap


def test_of_a_coin_and_of_a_constant() -> None:
    low, high = bootstrap(np.mean, np.array([[0.0, 1.0] * 200, [3.0] * 400]), resamples=2000)
    assert low[1] == high[1] == 3.0
    error = 0.025  # sqrt(.25/400)
    assert (low[0], high[0]) == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.006)


def test_the_band_of_equal_curves_is_the_curve() -> None:
    low, high = bootstrap(np.mean, np.array([[1.0, 2.0, 3.0]] * 4).T)
    np.testing.assert_allclose([low, high], [[1, 2, 3]] * 2)


def test_the_same_samples_give_the_same_interval() -> None:
    x = np.array([0.1, 0.4, 0.2, 0.9])
    assert bootstrap(np.mean, x) == bootstrap(np.mean, x)


def test_of_two_draws_all_means_are_reached() -> None:
    """Resamples are (a, a), (a, b), (b, a) and (b, b): each end has a quarter of them."""
    assert bootstrap(np.mean, np.array([2.0, 6.0])) == (2.0, 6.0)


def test_of_one_draw_both_ends_are_its_value() -> None:
    low, high = bootstrap(np.mean, np.array([[2.0], [3.0]]))
    assert low.tolist() == high.tolist() == [2.0, 3.0]


def test_rows_are_resampled_together() -> None:
    x = np.array([0.1, 0.4, 0.2, 0.9])
    low, high = bootstrap(lambda pair, axis: np.ptp(pair.mean(axis=axis), axis=0), np.stack([x, x]))
    assert (low, high) == (0.0, 0.0)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(12.0).reshape(3, 4)
    whole = bootstrap(np.mean, x)
    monkeypatch.setattr("asym_lightning.metrics.bootstrap._BATCH", 1200)
    np.testing.assert_array_equal(whole, bootstrap(np.mean, x))
