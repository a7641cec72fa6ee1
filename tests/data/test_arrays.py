"""Mean and standard deviation of pixels, compared with numpy."""

import numpy as np
import pytest

from cnnbench.data.arrays import measure_mean_and_std


@pytest.mark.parametrize("shape", [(2500, 3, 4, 4), (2500, 1, 4, 4), (2500, 4, 4)], ids=str)
def test_mean_and_std_match_numpy_up_to_four_decimals(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    by_channel = (pixels[:, None] if len(shape) == 3 else pixels) / 255
    mean, std = measure_mean_and_std(pixels)
    assert mean == pytest.approx(by_channel.mean(axis=(0, 2, 3)), abs=5.1e-5)
    assert std == pytest.approx(by_channel.std(axis=(0, 2, 3)), abs=5.1e-5)
    for value in (*mean, *std):
        assert (type(value), round(value, 4)) == (float, value)
