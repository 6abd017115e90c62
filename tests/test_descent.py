import pytest
import torch
from conftest import make_trial
from torch import Tensor, nn

from dpbench.engines.descent import Sgd, noisy_mean


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_pytorchs_sgd(momentum: float) -> None:
    trial = make_trial("non-private", learning_rate=0.3, momentum=momentum)
    ours, theirs = (nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=momentum)
    sgd = Sgd(ours.parameters(), trial)
    for _ in range(4):
        gradients: list[Tensor] = []
        for parameter in theirs.parameters():
            parameter.grad = torch.randn_like(parameter)
            gradients.append(parameter.grad.clone())
        optimizer.step()
        sgd.step(gradients)
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(our, their)


def test_noise_is_drawn_as_opacus_draws_it() -> None:
    trial = make_trial("fused", noise_multiplier=2.0, max_grad_norm=1.5)
    layer = nn.Linear(300, 40)
    parameters = list(layer.parameters())
    sums = [torch.randn_like(each) for each in parameters]
    mean = noisy_mean(parameters, sums, trial, torch.Generator().manual_seed(5))
    noise = torch.Generator().manual_seed(5)
    for part, total in zip(mean, sums, strict=True):
        drawn = torch.normal(0.0, 3.0, total.shape, generator=noise)
        torch.testing.assert_close(part, (total + drawn) / trial.batch_size)
    assert 2.9 < float((mean[0] * trial.batch_size - sums[0]).std()) < 3.1
