"""What a page's numbers rest on, as BibTeX."""

_ACCOUNTANTS = """\
@article{doroshenko2022connect,
  title = {Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions},
  author = {Doroshenko, Vadym and Ghazi, Badih and Kamath, Pritish and Kumar, Ravi and Manurangsi, Pasin},
  journal = {Proceedings on Privacy Enhancing Technologies},
  volume = {2022},
  number = {4},
  year = {2022}
}
@inproceedings{koskela2020computing,
  title = {Computing Tight Differential Privacy Guarantees Using {FFT}},
  author = {Koskela, Antti and J{\\"a}lk{\\"o}, Joonas and Honkela, Antti},
  booktitle = {Proceedings of the 23rd International Conference on Artificial Intelligence and Statistics},
  year = {2020}
}
@inproceedings{mironov2017renyi,
  title = {R{\\'e}nyi Differential Privacy},
  author = {Mironov, Ilya},
  booktitle = {30th IEEE Computer Security Foundations Symposium},
  year = {2017}
}
@article{mironov2019sampled,
  title = {R{\\'e}nyi Differential Privacy of the Sampled {Gaussian} Mechanism},
  author = {Mironov, Ilya and Talwar, Kunal and Zhang, Li},
  journal = {arXiv:1908.10530},
  year = {2019}
}
"""  # noqa: E501

_SHUFFLED = """\
@inproceedings{balle2018improving,
  title = {Improving the {Gaussian} Mechanism for Differential Privacy: Analytical Calibration and Optimal Denoising},
  author = {Balle, Borja and Wang, Yu-Xiang},
  booktitle = {Proceedings of the 35th International Conference on Machine Learning},
  year = {2018}
}
@inproceedings{chua2024private,
  title = {How Private are {DP-SGD} Implementations?},
  author = {Chua, Lynn and Ghazi, Badih and Kamath, Pritish and Kumar, Ravi and Manurangsi, Pasin and Sinha, Amer and Zhang, Chiyuan},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  year = {2024}
}
"""  # noqa: E501

_CHOSEN = """\
@inproceedings{papernot2022hyperparameter,
  title = {Hyperparameter Tuning with {R{\\'e}nyi} Differential Privacy},
  author = {Papernot, Nicolas and Steinke, Thomas},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}
"""


def bibtex(*, shuffled: bool, chosen: bool) -> str:
    """The accountants; and what else the store's batches and the page's answers rest on.

    Args:
        shuffled: Whether a trial drew shuffled batches.
        chosen: Whether an answer says what choosing costs.
    """
    return _ACCOUNTANTS + _SHUFFLED * shuffled + _CHOSEN * chosen
