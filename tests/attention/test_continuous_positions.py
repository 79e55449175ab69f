import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch.nn.functional import gelu

from vitlab.attention import ContinuousDynamics, FourierFeatures, Grid

DIM = 7
BOTH = [FourierFeatures, ContinuousDynamics]


def table(position, height, width):
    return position.table_for(Grid(height, width)).unflatten(1, (height, width))[0]


def test_bfloat16_weights_sum_their_steps_in_float32():
    torch.manual_seed(0)
    position = ContinuousDynamics(28, time_step=0.01, steps_per_patch=4).to(torch.bfloat16)
    wide = ContinuousDynamics(28, time_step=0.01, steps_per_patch=4)
    wide.load_state_dict(position.state_dict())
    torch.testing.assert_close(position.table_for(Grid(23, 5)).float(), wide.table_for(Grid(23, 5)))


@pytest.mark.parametrize("position", BOTH)
def test_a_place_keeps_its_vector_on_any_grid(position):
    made = position(DIM, Grid(3, 5))
    torch.testing.assert_close(table(made, 11, 13)[:3, :5], table(made, 3, 5))
    torch.testing.assert_close(table(made, 1, 5)[0], table(made, 3, 5)[0])


@pytest.mark.parametrize("position", BOTH)
def test_places_have_vectors_of_their_own_beyond_the_grid_too(position):
    vectors = table(position(DIM, Grid(3, 5)), 11, 13).flatten(0, 1)
    assert (torch.cdist(vectors, vectors) + 10 * torch.eye(143)).min() > 1e-4


@pytest.mark.parametrize("position", BOTH)
def test_copies_draw_their_own_start(position):
    made = position(DIM)
    before = table(made, 3, 5).clone()
    made.reset_parameters()
    assert not torch.isclose(table(made, 3, 5), before).all(-1).any()


def test_fourier_features_are_their_formula():
    position = FourierFeatures(DIM, num_directions=5, hidden_dim=11)
    row, column = 2, 4
    for bias in (position.expand.bias, position.contract.bias):
        bias.data.normal_()
    angles = position.directions @ torch.tensor([2.0, 4.0])
    features = torch.cat([angles.cos(), angles.sin()]) / 5**0.5
    hidden = gelu(position.expand.weight @ features + position.expand.bias)
    expected = position.contract.weight @ hidden + position.contract.bias
    torch.testing.assert_close(table(position, 3, 5)[row, column], expected)


def test_fourier_features_start_alike_up_to_their_width():
    torch.manual_seed(0)
    position = FourierFeatures(DIM, num_directions=20_000, width=3.0)
    places = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, -4.0], [-11.0, 7.0]])
    features = position.features(places)
    expected = torch.exp(-torch.cdist(places, places).square() / 18)
    torch.testing.assert_close(features @ features.T, expected, atol=0.03, rtol=0)


def test_dynamics_add_the_paths_of_row_and_column():
    position = ContinuousDynamics(DIM)
    vectors, rows, columns = table(position, 5, 7), table(position, 5, 1), table(position, 1, 7)
    torch.testing.assert_close(vectors, rows + columns - vectors[:1, :1])


def test_dynamics_of_constant_velocity_are_a_straight_line():
    position = ContinuousDynamics(DIM, time_step=0.3)
    position.contract.data.zero_()
    vectors = table(position, 3, 5)
    for row, column in [(0, 0), (2, 1), (1, 4)]:
        expected = position.start.sum((0, 1)) + 0.3 * (
            row * position.contract_bias[0] + column * position.contract_bias[1]
        )
        torch.testing.assert_close(vectors[row, column], expected[0])


def test_dynamics_are_the_path_that_an_adaptive_solver_finds():
    torch.manual_seed(0)
    position = ContinuousDynamics(DIM, hidden_dim=5, time_step=0.5).double()
    for weight in position.parameters():
        weight.data.normal_()
    weights = {name: weight[0].detach().numpy() for name, weight in position.named_parameters()}

    def velocity(time, place):
        hidden = place @ weights["expand"] + time * weights["expand_time"][0] + weights["expand_bias"][0]
        return np.tanh(hidden) @ weights["contract"] + weights["contract_bias"][0]

    times = 0.5 * np.arange(11)
    exact = solve_ivp(velocity, (0, 5), weights["start"][0], t_eval=times, rtol=1e-10, atol=1e-10).y.T
    errors = []
    for steps_per_patch in (4, 8, 16):
        position.steps_per_patch = steps_per_patch
        rows = table(position, 11, 1)[:, 0] - position.start[1]
        errors.append(np.abs(rows.detach().numpy() - exact).max())
    assert errors[2] < 1e-4
    assert errors[0] / errors[1] > 8  # of order 4: 16 in the limit
    assert errors[1] / errors[2] > 8


def test_dynamics_are_computed_exactly_under_autocast():
    position = ContinuousDynamics(DIM)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = table(position, 3, 5)
    assert torch.equal(low, table(position, 3, 5))


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="width above 0, got 32, 64 and 0"):
        FourierFeatures(DIM, width=0)
    with pytest.raises(ValueError, match=r"time_step above 0, got 32, 0 and 0\.1"):
        ContinuousDynamics(DIM, steps_per_patch=0)
