"""Steps of AdamW beside PyTorch's own."""

import torch


def twice(shapes, device="cpu"):
    """Parameters of these shapes, and others of the same values."""
    values = [torch.randn(shape, device=device) for shape in shapes]
    return [[torch.nn.Parameter(each.clone()) for each in values] for _ in range(2)]


def check_norm(norm, parameters, optimizer, grads, limit):
    """PyTorch clips and steps by these gradients; the norm is that which it finds."""
    for each, grad in zip(parameters, grads, strict=True):
        each.grad = grad.float().clone() if each.requires_grad else None
    expected = torch.nn.utils.clip_grad_norm_(parameters, limit or float("inf"))
    optimizer.step()
    torch.testing.assert_close(norm, expected)


def check_alike(mine, ours, other, theirs):
    """Parameters and their optimizers' states are the same, and ours is left without gradients."""
    assert all(each.grad is None for each in mine)
    for own, each in zip(mine, other, strict=True):
        torch.testing.assert_close(own, each, rtol=1e-5, atol=1e-6)
    states, expected = (each.state_dict()["state"] for each in (ours, theirs))
    for place, state in expected.items():
        for name, value in state.items():
            torch.testing.assert_close(states[place][name], value, rtol=1e-5, atol=1e-7)
