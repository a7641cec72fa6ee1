"""The sigmoid as a computation graph: four nodes, run forward and backward.

    python examples/sigmoid_graph.py

y = 1 / (1 + e^-x) is a product with -1, an exponential, a sum with 1 and a quotient. Backward, each
node multiplies the gradient that it receives by its own derivative, from the last to the first:

    dy/dy = 1      quotient -1 / (1 + e^-x)^2      sum 1      exponential e^-x      product -1

Their product is e^-x / (1 + e^-x)^2 = y (1 - y), which a sigmoid layer computes in one step.
"""

import torch

from cnnbench.reference.activations import Logistic
from cnnbench.reference.nodes import Add, Divide, Exp, Multiply

X = 1.0
ONE = torch.tensor(1.0, dtype=torch.float64)


def run_graph(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the value of each node, which has its gradient after the backward pass."""
    values = {"x": x}
    values["-x"] = Multiply.apply(x, -ONE)
    values["e^-x"] = Exp.apply(values["-x"])
    values["1 + e^-x"] = Add.apply(values["e^-x"], ONE)
    values["y"] = Divide.apply(ONE, values["1 + e^-x"])
    for value in values.values():
        value.retain_grad()
    values["y"].backward()
    return values


def main() -> None:
    values = run_graph(torch.tensor(X, dtype=torch.float64, requires_grad=True))
    print(f"{'value':>17} {'gradient of y':>15}")
    for name, value in values.items():
        assert value.grad is not None
        print(f"{name:8} {value.item():8.5f} {value.grad.item():15.5f}")
    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    y = Logistic.apply(x)
    y.backward()
    assert x.grad is not None
    print(f"in one step: y = {y.item():.5f}, dy/dx = y (1 - y) = {x.grad.item():.5f}")


if __name__ == "__main__":
    main()
