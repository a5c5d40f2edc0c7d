"""Arrays arrive on the device as they were."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tadscale.runtime.pipeline.upload import Upload

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_of_two_threads_arrive_whole(device):
    upload = Upload(device)
    arrays = [np.random.default_rng(n).integers(0, 256, (3, 500, 500), dtype=np.uint8) for n in range(12)]
    with ThreadPoolExecutor(2) as pool:
        sums = [pool.submit(lambda array: upload(array).long().sum().item(), array) for array in arrays]
    assert [found.result() for found in sums] == [int(array.sum()) for array in arrays]


@pytest.mark.parametrize("device", DEVICES)
def test_the_device_is_the_one_asked_for(device):
    assert Upload(device)(np.zeros(3, np.float32)).device.type == device
