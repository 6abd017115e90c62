from dpbench import Range
from dpbench.search.space import Space

SPACE = Space(
    dimensions={
        "learning_rate": Range(0.1, 10.0, log=True),
        "batch_size": (64, 256, 1024),
        "epochs": Range(1, 3),
    }
)


def test_a_point_is_a_setting() -> None:
    assert len(SPACE) == 3
    assert SPACE.at([0.5, 0.99, 0.4]) == {"learning_rate": 1.0, "batch_size": 1024, "epochs": 2}


def test_what_a_dimension_may_be() -> None:
    assert SPACE.possible("batch_size") == (64, 256, 1024)
    assert SPACE.possible("epochs") == (1, 2, 3)
    assert SPACE.possible("learning_rate") is None
    assert SPACE.possible("momentum") is None
