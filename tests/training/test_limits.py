import time

import torch
from torch import nn

from vitlab.training.limits import MachineRates, least_seconds, measure_rates


def test_a_step_is_bound_by_arithmetic_or_by_bytes_whichever_takes_longer():
    model = nn.Linear(13, 7)
    images = torch.randn(5, 13)
    flops = 2 * 5 * 13 * 7 * 2  # forward, and the weight's gradient; images need none
    weights, kept = 4 * (13 * 7 + 7), images.nbytes
    slow, fast = 1.0, 1e30
    by_arithmetic = least_seconds(model, images, torch.sum, MachineRates(slow, fast))
    assert by_arithmetic == flops
    assert least_seconds(model, images, torch.sum, MachineRates(fast, slow)) == 2 * kept + 10 * weights


def test_rates_are_work_over_the_time_of_the_fastest_call():
    def two_seconds(call, device):
        call()
        return 2.0

    rates = measure_rates(two_seconds, rounds=1)
    assert rates.flops_per_second == 2 * 4096 * 512**2 / 2
    assert rates.bytes_per_second == 2 * 4 * 2**25 / 2


def test_measured_rates_are_not_beaten_by_a_larger_product():
    def seconds(call, device):
        start = time.process_time()
        call()
        return time.process_time() - start

    rates = measure_rates(seconds, rounds=2)
    assert 1e8 < rates.flops_per_second < 1e14
    assert 1e8 < rates.bytes_per_second < 1e13
