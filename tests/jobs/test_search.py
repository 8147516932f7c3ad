"""job=search: pictures as queries, and what cannot be asked."""

import shlex

import pytest

INDEX = ("job=index", "threads=1", "store.path=store")
SEARCH = ("job=search", "threads=1", "store.path=store")


def test_an_image_is_looked_for_too(rcc_run, digits):
    assert rcc_run(*INDEX, "split=test", "data.test=20", "hydra.run.dir=one")[0] == 0
    digits.test.images[7].save("seven.png")
    code, out, err = rcc_run(*SEARCH, "query=seven.png", "top_k=1")
    assert code == 0, err
    assert "test/7" in out
    assert "1.0000" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("job=search",), "job=search needs a store"),
        (("job=search", "store.path=none", "query=a"), "none is no store: there is nothing"),
        (("job=search", "store.path=none", "query=a", "artifact=[dense,none]"), "none is not an artifact"),
        (("job=search", "store.path=none"), "job=search needs a query"),
        (("job=search", "store.path=none", "query=a", "top_k=0"), "top_k is 0"),
        (("job=search", "store.path=none", "query=a", "method=fast"), "unknown method 'fast'"),
        (("job=search", "store.path=none", "query=a", "candidates=9"), "no effect with method=exact"),
        (("job=search", "store.path=none", "query=a", "dry_run=false"), "job=search writes nothing"),
    ],
)
def test_what_cannot_be_found_is_refused(rcc_run, words, message):
    code, _, err = rcc_run(*words)
    assert code == 2
    assert message in err


def test_the_printed_search_runs(rcc_run):
    code, out, err = rcc_run(*INDEX, "split=test", "data.test=20", "hydra.run.dir=one")
    assert code == 0, err
    (line,) = [line.partition(": rcc-run ")[2] for line in out.splitlines() if line.startswith("Search it:")]
    code, out, err = rcc_run(*shlex.split(line))
    assert code == 0, err
    assert "the nearest 10 of 20" in out


def test_codes_find_in_a_small_store_what_all_vectors_do(rcc_run):
    assert rcc_run(*INDEX, "split=test", "data.test=20", "hydra.run.dir=one")[0] == 0
    exact, coded = (rcc_run(*SEARCH, "query=three", *more) for more in ((), ("method=codes", "candidates=50")))
    assert exact == coded
    assert exact[0] == 0
