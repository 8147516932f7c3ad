"""Bytes alive at once, against counts by hand."""

import torch
from torch import nn

from rcc.runtime.memory import peak_bytes

WEIGHTS = 4 * (20 * 10 + 5 * 20)


def test_weights_input_and_the_widest_pair_of_activations_are_counted():
    net = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False))
    x = torch.randn(7, 10)
    assert peak_bytes(lambda: net(x), net) == WEIGHTS + 4 * 7 * (10 + 20 + 20)
    net[1] = nn.ReLU(inplace=True)
    assert peak_bytes(lambda: net(x), net) == WEIGHTS + 4 * 7 * (10 + 20 + 5)


def test_views_and_tied_weights_count_once_and_unused_ones_count():
    net = nn.ModuleList([nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)])
    net[1].weight = net[0].weight
    x = torch.randn(4, 8)
    assert peak_bytes(lambda: x.view(8, 4).t().unsqueeze(0), net) == 4 * (2 * 64 + 32)


def test_what_is_let_go_no_longer_counts():
    net = nn.Linear(1, 1, bias=False)

    def run():
        for _ in range(5):
            torch.ones(1000).add(1)

    assert peak_bytes(run, net) == 4 + 2 * 4000


def test_a_low_rank_pair_takes_less_than_the_matrix_it_stands_for():
    x = torch.randn(2, 64)
    whole = nn.Linear(64, 64, bias=False)
    pair = nn.Sequential(nn.Linear(64, 4, bias=False), nn.Linear(4, 64, bias=False))
    assert peak_bytes(lambda: whole(x), whole) == 4 * (64 * 64 + 2 * 2 * 64)
    assert peak_bytes(lambda: pair(x), pair) == 4 * (2 * 4 * 64 + 2 * (64 + 4 + 64))


def test_sparse_rows_count_their_indices_and_values():
    matrix = torch.eye(16).to_sparse_csr()
    x = torch.randn(16, 3)
    found = peak_bytes(lambda: matrix @ x, nn.Identity())
    index = matrix.col_indices().element_size()
    assert found >= 17 * index + 16 * index + 16 * 4 + 4 * 48 * 2
