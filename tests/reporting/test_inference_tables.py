"""The tables of runtime=… from hand-made records."""

from rcc.reporting.inference import efficiency_table, runtime_lines, runtime_table
from rcc.runtime.records import Efficiency, Latency, Pick, RuntimePlan

PICKS = (
    Pick("a.layers.0.q_proj", (64, 64), "UV", 8, 0.7, 50, "int8", 4e-3, 1e-3, 0.9999),
    Pick("a.layers.1.k_proj", (64, 64), "UV", 12, 0.756, 50, "int8", 4e-3, 1e-3, 0.9992),
    Pick("head", (10, 64), "S", None, 0.0, 1, "as stored", 1e-3, 1e-3, 1.0),
)
PLAN = RuntimePlan("auto", "bfloat16", 2, PICKS, 0.2, 0.05, 3.9, 0.9998, 0.9876, ("One unit was not called.",))


def test_layers_of_one_shape_form_and_kernel_share_a_row():
    table = runtime_table(PLAN)
    assert table.rows == (
        ("q_proj, k_proj", "2", "64×64", "50", "UV", "8–12", "70%–76%", "int8", "4.00×", "0.9992"),
        ("head", "1", "10×64", "1", "S", "-", "0%", "as stored", "1.00×", "1.0000"),
    )
    assert len(table.head) == 10


def test_the_lines_say_dtype_speed_cosines_and_notes():
    lines = runtime_lines(PLAN)
    assert lines[0] == (
        "runtime=auto: activations in bfloat16, 2 threads. One pass takes 50.00 ms instead of 0.20 s as stored: 4.00× "
        "as fast (3.90× by the layers' own times)."
    )
    assert lines[1] == "Cosine of the outputs to those as stored: 0.9998, about their mean 0.9876."
    assert lines[2:] == ["One unit was not called."]


def test_speed_is_given_against_the_first_model_at_the_same_batch_size():
    models = [
        Efficiency("dense", 2_000_000, 2_000_000, (Latency(1, 0.02, 0.03, 9), Latency(4, 0.04, 0.05, 9))),
        Efficiency("as run", 500_000, 100_000, (Latency(1, 0.01, 0.02, 9), Latency(4, 0.01, 0.01, 9))),
    ]
    assert efficiency_table(models).rows == (
        ("dense", "1", "20.00 ms", "30.00 ms", "50.0", "1.00×", "9", "2.00 M", "2.00 M"),
        ("dense", "4", "40.00 ms", "50.00 ms", "100.0", "1.00×", "9", "2.00 M", "2.00 M"),
        ("as run", "1", "10.00 ms", "20.00 ms", "100.0", "2.00×", "9", "500 k", "100 k"),
        ("as run", "4", "10.00 ms", "10.00 ms", "400.0", "4.00×", "9", "500 k", "100 k"),
    )
