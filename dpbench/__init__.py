"""What differential privacy costs: privacy, accuracy and speed of DP-SGD, measured."""

__version__ = "0.1.0"
