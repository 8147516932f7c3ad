"""Compression stages whose result is known in advance."""

import torch

from rcc.layers.form import Form
from rcc.stages.base import Stage, StageReport, planned


class Erase(Stage):
    """Zeroes the first `share` of each chosen unit's values: harmless when small, fatal when large."""

    method = "erase"
    strength_option = "share"

    def __init__(self, share=0.5, label=""):
        self.share, self.label = share, label

    strength = property(lambda self: self.share)

    def at(self, strength):
        return type(self)(strength, self.label)

    def plan(self, units, itemsize):
        return list(units)

    def apply(self, model, context):
        report = StageReport()
        for unit in self.choose(model)[0]:
            form = unit.read()
            weight = form.dense().clone()
            weight.view(-1)[: round(self.share * weight.numel())] = 0
            unit.write(Form(sparse=weight, bias=form.bias))
            report.touched[unit.name] = {"zeros": round(self.share * weight.numel())}
        return report


class Factor(Erase):
    """Replaces each chosen unit by its exact low-rank pair, so that nothing is lost and the structure changes."""

    method = "factor"
    strength = None
    projects = True

    def apply(self, model, context):
        report = StageReport()
        for unit in self.choose(model)[0]:
            form = unit.read()
            left, values, right = torch.linalg.svd(form.dense(), full_matrices=False)
            unit.write(Form(left=(left * values).contiguous(), right=right.contiguous(), bias=form.bias))
            report.touched[unit.name] = {"rank": len(values)}
        return report


class Break(Erase):
    """Changes the model and then raises."""

    method = "break"

    def apply(self, model, context):
        super().apply(model, context)
        raise RuntimeError("expected (3, 4), found (4, 3)")


class Poison(Erase):
    """Leaves a NaN in one weight."""

    method = "poison"

    def apply(self, model, context):
        unit = model.units()[1]
        weight = unit.read().dense().clone()
        weight[2, 3] = float("nan")
        unit.write(Form(sparse=weight, bias=unit.read().bias))
        return StageReport()


class Noise(Erase):
    """Adds noise drawn from the step's own generator: what resuming must reproduce to the bit."""

    method = "noise"

    def apply(self, model, context):
        generator = context.generator()
        for unit in self.choose(model)[0]:
            form = unit.read()
            noise = 1e-3 * torch.randn(unit.shape, generator=generator)
            unit.write(Form(sparse=form.dense() + noise, bias=form.bias))
        return StageReport()


class Cut(Erase):
    """Zeroes exactly the smallest `share` of each chosen unit's values, and plans that to the value."""

    method = "cut"

    def plan(self, units, itemsize):
        return [
            planned(unit, "", **{name: self._left(*held) for name, held in unit.matrices.items()}) for unit in units
        ]

    def _left(self, numel, nonzeros):
        return numel, min(nonzeros, numel - round(self.share * numel))

    def apply(self, model, context):
        report = StageReport()
        for unit in self.choose(model)[0]:
            form = unit.read()
            weight = form.dense().clone()
            weight.view(-1)[weight.abs().view(-1).argsort(stable=True)[: round(self.share * weight.numel())]] = 0
            unit.write(Form(sparse=weight, bias=form.bias))
            report.touched[unit.name] = {"nonzeros": int(torch.count_nonzero(weight))}
        return report


class Thin(Cut):
    """Zeroes a tenth of what is left, which its plan does not know."""

    method = "thin"
    strength = None

    def plan(self, units, itemsize):
        return list(units)

    def apply(self, model, context):
        for unit in self.choose(model)[0]:
            form = unit.read()
            weight = form.dense().clone()
            weight.view(-1)[torch.nonzero(weight.view(-1)).view(-1)[::10]] = 0
            unit.write(Form(sparse=weight, bias=form.bias))
        return StageReport()
