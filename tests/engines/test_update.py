import pytest
import torch
import torch.nn.functional as F
from factories import make_trial
from torch import Tensor, nn

from dpbench import optimizers
from dpbench.engines.noise import Noise
from dpbench.engines.non_private.step import NonPrivate
from dpbench.engines.update import NoisySums, Update, noisy_mean


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_pytorchs_sgd(momentum: float) -> None:
    trial = make_trial("non-private", learning_rate=0.3, momentum=momentum)
    ours, theirs = (nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=momentum)
    update = Update(ours.parameters(), trial)
    for _ in range(4):
        gradients: list[Tensor] = []
        for parameter in theirs.parameters():
            parameter.grad = torch.randn_like(parameter)
            gradients.append(parameter.grad.clone())
        optimizer.step()
        update.step(gradients)
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(our, their)


def test_noise_is_drawn_as_opacus_draws_it() -> None:
    trial = make_trial("fused", noise_multiplier=2.0, max_grad_norm=1.5)
    layer = nn.Linear(300, 40)
    parameters = list(layer.parameters())
    sums = [torch.randn_like(each) for each in parameters]
    ours = Noise(parameters, trial, torch.Generator().manual_seed(5))
    mean = noisy_mean(sums, ours, trial.batch_size)
    noise = torch.Generator().manual_seed(5)
    for part, total in zip(mean, sums, strict=True):
        drawn = torch.normal(0.0, 3.0, total.shape, generator=noise)
        torch.testing.assert_close(part, (total + drawn) / trial.batch_size)
    assert 2.9 < float((mean[0] * trial.batch_size - sums[0]).std()) < 3.1


def test_sums_that_begin_as_noise_are_the_same() -> None:
    trial = make_trial("bookkeeping", noise_multiplier=2.0, max_grad_norm=1.5)
    layer = nn.Linear(300, 300)
    parameters = list(layer.parameters())
    sums = [torch.randn_like(each) for each in parameters]
    ours, fresh = (Noise(parameters, trial, torch.Generator().manual_seed(5)) for _ in range(2))
    noisy = NoisySums(ours, trial.batch_size)
    for _ in range(2):  # in the same memory
        noisy.begin()
        (large,) = noisy.large.values()
        large.add_(sums[0])
        expected = noisy_mean(sums, fresh, trial.batch_size)
        for one, other in zip(noisy.mean(sums[1:]), expected, strict=True):
            torch.testing.assert_close(one, other)


class Shared(nn.Module):
    """Two parameters whose gradients are one tensor of autograd's."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 10)
        self.one, self.other = nn.Parameter(torch.zeros(10)), nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dense(x)
        return logits + (self.one + self.other)


def test_parts_are_added_up_where_gradients_share_memory() -> None:
    trial = make_trial("non-private", learning_rate=0.5, batch_size=100)
    ours, theirs = Shared(), Shared()
    ours.load_state_dict(theirs.state_dict())
    images, labels = torch.randn(100, 6), torch.randint(10, (100,))
    NonPrivate(trial, ours, physical_batch_size=20).step(images, labels)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.5)
    (F.cross_entropy(theirs(images), labels, reduction="sum") / 100).backward()
    optimizer.step()
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(our, their)


def test_steps_follow_parameters_whose_memory_is_exchanged() -> None:
    layer = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    update = Update(layer.parameters(), make_trial("non-private"))
    before = layer.weight.detach().clone()
    layer.to(memory_format=torch.contiguous_format)
    update.step([torch.ones_like(each) for each in layer.parameters()])
    torch.testing.assert_close(layer.weight.detach(), before - 0.1)


@pytest.mark.parametrize("optimizer", optimizers.names())
def test_the_state_is_whole_and_at_its_start_before_the_first_step(optimizer: str) -> None:
    """As a CUDA graph needs it: a copy of the state, put back, takes the same steps again."""
    trial = make_trial("non-private", optimizer=optimizer, learning_rate=0.3)
    ours, theirs = nn.Linear(3, 4), nn.Linear(3, 4)
    ours.load_state_dict(theirs.state_dict())
    plain = optimizers.spec(optimizer).build(theirs.parameters(), trial)
    update = Update(ours.parameters(), trial)
    before = [each.clone() for each in update.state]
    gradients = [[torch.randn_like(each) for each in theirs.parameters()] for _ in range(3)]
    for _ in range(2):
        for each in gradients:
            update.step(each)
        after = [each.clone() for each in update.state]
        assert not any(map(torch.equal, before, after))
        for one, start in zip(update.state, before, strict=True):
            one.copy_(start)
    for each in gradients:
        for parameter, gradient in zip(theirs.parameters(), each, strict=True):
            parameter.grad = gradient
        plain.step()
    for our, their in zip(after, theirs.parameters(), strict=False):
        torch.testing.assert_close(our, their.detach())
