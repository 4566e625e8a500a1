"""Sets of permutations: greedy as described, different from each other, fast and always the same."""

import itertools
import time

import pytest
import torch

from sslfast import _host


def distances(permutations):
    """(N, N) Hamming distances."""
    table = torch.tensor(permutations)
    return (table[:, None] != table[None]).sum(2)


def greedy(tiles, count):
    """The rule in plain Python: largest minimal distance, then largest sum, then first in lexicographic order."""
    candidates = torch.tensor(list(itertools.permutations(range(tiles))))
    chosen = [0]
    while len(chosen) < count:
        apart = (candidates[:, None] != candidates[chosen][None]).sum(2)
        rank = apart.amin(1) * 10**6 + apart.sum(1)
        chosen.append(int((rank == rank.max()).nonzero()[0]))
    return candidates[chosen].tolist()


@pytest.mark.parametrize(("tiles", "count"), [(1, 1), (2, 2), (3, 6), (4, 24), (5, 50), (7, 60)])
def test_follows_the_rule(tiles, count):
    assert _host.permutation_set(tiles, count) == greedy(tiles, count)


@pytest.mark.parametrize(("count", "least"), [(9, 9), (64, 7), (100, 6), (1000, 5)])
def test_permutations_of_nine_tiles_are_far_apart(count, least):
    begin = time.process_time()  # other work may share the processor
    permutations = _host.permutation_set(9, count)
    seconds = time.process_time() - begin
    assert len(permutations) == count
    assert all(sorted(permutation) == list(range(9)) for permutation in permutations)
    apart = distances(permutations)
    apart.fill_diagonal_(9)
    assert apart.min() >= least
    assert seconds < 1


def test_smaller_set_is_the_beginning_of_a_larger_one():
    assert _host.permutation_set(6, 300)[:20] == _host.permutation_set(6, 20)


def test_all_permutations_are_found():
    assert sorted(_host.permutation_set(6, 720)) == [list(p) for p in itertools.permutations(range(6))]


@pytest.mark.parametrize(
    ("tiles", "count", "message"),
    [(0, 1, "tiles must be 1 to 9"), (10, 5, "tiles must be 1 to 9"), (3, 7, "1 to 6"), (3, 0, "1 to 6")],
)
def test_bad_input(tiles, count, message):
    with pytest.raises(RuntimeError, match=message):
        _host.permutation_set(tiles, count)
