"""A module tree put back as it was, and its version in another dtype."""

import torch
from torch import nn

from rcc.runtime.snapshot import Snapshot, cast


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("offset", torch.ones(4))
        self.register_buffer("places", torch.arange(4))


def test_a_snapshot_puts_back_the_very_modules_and_tensors():
    net = Net()
    before = dict(net.named_parameters()), dict(net.named_modules()), dict(net.named_buffers())
    snapshot = Snapshot(net)
    cast(net, torch.bfloat16)
    net.head = nn.Identity()
    net.extra = nn.Linear(2, 2)
    snapshot.put()
    after = dict(net.named_parameters()), dict(net.named_modules()), dict(net.named_buffers())
    for then, now in zip(before, after, strict=True):
        assert then.keys() == now.keys()
        assert all(then[name] is now[name] for name in then)


def test_casting_keeps_ties_whole_numbers_and_batch_norms():
    net = Net()
    before = net.embedding.weight.detach().clone()
    held = net.embedding.weight
    cast(net, torch.bfloat16)
    assert net.embedding.weight is net.head.weight
    assert net.embedding.weight.dtype is net.offset.dtype is torch.bfloat16
    assert (net.places.dtype, net.norm.running_var.dtype) == (torch.int64, torch.float32)
    assert torch.equal(held, before)
