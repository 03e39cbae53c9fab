"""Elementwise activations and their gradients, which keep the memory order of what the forward pass saved."""

from fastconv.backends.cpu.elementwise cimport run_map, table


def relu_forward(x):
    """max(x, 0); NaN stays NaN."""
    return run_map(table(x).relu_forward, (x,), 0)


def relu_backward(dy, y):
    """0 where y <= 0, else dy."""
    return run_map(table(y).relu_backward, (dy, y), 1)


def leaky_relu_forward(x, double negative_slope):
    """x where x > 0, else negative_slope * x."""
    return run_map(table(x).leaky_relu_forward, (x,), 0, negative_slope)


def leaky_relu_backward(dy, x, double negative_slope):
    """dy where x > 0, else negative_slope * dy."""
    return run_map(table(x).leaky_relu_backward, (dy, x), 1, negative_slope)


def sigmoid_forward(x):
    """1 / (1 + exp(-x))."""
    return run_map(table(x).sigmoid_forward, (x,), 0)


def sigmoid_backward(dy, y):
    """dy * y * (1 - y)."""
    return run_map(table(y).sigmoid_backward, (dy, y), 1)


def tanh_forward(x):
    """tanh(x)."""
    return run_map(table(x).tanh_forward, (x,), 0)


def tanh_backward(dy, y):
    """dy * (1 - y * y)."""
    return run_map(table(y).tanh_backward, (dy, y), 1)
