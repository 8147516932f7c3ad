"""The tables of runtime=… from hand-made records."""

from rcc.reporting.inference import runtime_lines, runtime_table
from rcc.runtime.records import Pick, RuntimePlan

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
