"""The user's code that a task needs, as it travels to a worker: references, never functions."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dpbench import losses, user_code
from dpbench.datasets import user_data
from dpbench.datasets.user_data import UserDataset
from dpbench.models import user_models
from dpbench.models.user_models import UserModel
from dpbench.trial import Trial, Workload
from dpbench.user_code import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class UserWork:
    """Datasets, models and losses of the user's; empty where all are built in.

    A receiver without their sources imports them by their paths. Either refuses sources that are
    not those of the hash.
    """

    datasets: tuple[UserDataset, ...] = ()
    models: tuple[UserModel, ...] = ()
    losses: tuple[Code, ...] = ()

    @classmethod
    def of(cls, asked: Iterable[Trial | Workload]) -> "UserWork":
        """What trials or workloads need, with its sources."""
        every = list(asked)
        datasets = dict.fromkeys(each.dataset for each in every)
        models = dict.fromkeys(each.model for each in every)
        of_loss = dict.fromkeys(each.loss for each in every if each.loss is not None)
        return cls(
            losses=tuple(map(losses.known, of_loss)),
            datasets=tuple(user_data.known(n) for n in datasets if user_code.is_reference(n)),
            models=tuple(user_models.known(n) for n in models if user_code.is_reference(n)),
        )

    @property
    def codes(self) -> "tuple[Code, ...]":
        """All of its functions."""
        of_models = (each.code for each in self.models)
        return (*(each.code for each in self.datasets), *of_models, *self.losses)

    def without_sources(self) -> "UserWork":
        """For a receiver on this machine."""
        return UserWork(
            losses=tuple(each.without_sources() for each in self.losses),
            datasets=tuple(replace(e, code=e.code.without_sources()) for e in self.datasets),
            models=tuple(replace(e, code=e.code.without_sources()) for e in self.models),
        )

    def admit(self) -> None:
        """Makes all of it known in this process, and imports it.

        Raises:
            BadInput: The sources are not those of the hash.
            UserCodeError: A file raises an error.
        """
        for code in self.codes:
            user_code.function(code)
        for dataset in self.datasets:
            user_data.admit(dataset)
        for model in self.models:
            user_models.admit(model)
        for code in self.losses:
            losses.admit(code)


NONE = UserWork()
