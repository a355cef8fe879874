"""What is computed in float32 under bfloat16."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from jointnet_cli.training.precision import Float32WhereSlow


def test_attention_and_norms_are_float32_and_give_the_type_of_their_input() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 3, 8).bfloat16(), torch.randn(4)
    norm, attention = F.group_norm(x.float(), 2, weight), F.scaled_dot_product_attention(*3 * [x.float()])
    with torch.autocast("cpu", torch.bfloat16), Float32WhereSlow():
        assert torch.equal(F.group_norm(x, 2, weight), norm.bfloat16())
        assert torch.equal(F.scaled_dot_product_attention(x, x, x), attention.bfloat16())
        assert torch.equal(F.group_norm(x.float(), 2, weight), norm)
        assert F.linear(x.float(), torch.ones(5, 8)).dtype == torch.bfloat16


def test_gradients_are_those_of_float32() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 8).bfloat16().requires_grad_()
    wide = x.detach().float().requires_grad_()
    with Float32WhereSlow():
        F.group_norm(x, 2).square().sum().backward()
    F.group_norm(wide, 2).bfloat16().square().sum().backward()
    assert x.grad is not None and wide.grad is not None
    assert torch.equal(x.grad, wide.grad.bfloat16())
