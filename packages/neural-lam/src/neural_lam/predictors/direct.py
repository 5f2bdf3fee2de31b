r"""Direct forecasts of every lead time within a day, against the same hour of the day before.

With :math:`P` states a day, :math:`D_s = X_s - X_{s-P}` is what changed since yesterday. A
forecast of the lead time :math:`l \le P` from the analysis at :math:`t` starts from the state
at :math:`t + l - P`, which is known, and has to find :math:`D_{t+l}`:

.. math::
    \hat X_{t+l} = X_{t+l-P} + g_l(D_t, D_{t-1}, D^{\partial}_{t+l}) + \sigma_l f(\cdot, l),

where :math:`D^{\partial}` is given on the boundary alone, if at all. The diurnal cycle, its
growth through spring and the contrast of land and sea are in :math:`X_{t+l-P}` already, so
that few parameters are left to fit: that matters where the data are weeks long.

The linear guess :math:`g_l` is that of `neural_lam.predictors.day_guess`. Each lead time is
forecast at once, and not by steps whose errors grow. To the wrappers of
`neural_lam.predictors.step`, a lead time of a window is a row of the batch and its forecast a
step, so that units, boundary, bounds and masks are those of every other forecast.

References:
    Chevillon (2007), Direct multi-step estimation and forecasting,
    doi.org/10.1111/j.1467-6419.2007.00518.x.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.day_guess import DayGuess, Predictors, apply_guess
from neural_lam.predictors.step import Correcting, StepPredictor, correcting
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = ["DirectPredictor", "DirectResidual", "DirectRows", "damping_factors"]


# Fields of a guess that are weights, and move with the module.
_TENSORS = tuple(name for name in DayGuess._fields if name not in {"shape", "sees_boundary"})


class DirectRows(NamedTuple):
    """What is known of each row of a batch besides its fields, and what they share.

    Arguments:
        lead: Lead times minus one, in steps, ``(R,)``.
        block: Blocks of the training period, whose weights the guess takes, ``(R,)``.
        embedded: Of the network.
    """

    lead: Tensor
    block: Tensor
    embedded: Any


class DirectResidual(Correcting):
    r"""Forecasts lead times by a linear guess and a network's correction, in standardised units.

    The network sees, in units of the spread of :math:`D`: the guess, :math:`D_t`,
    :math:`D_{t-1}`, the last change :math:`X_t - X_{t-1}`, yesterday's changes over the same
    hours and the next, the forcing around the lead time, the static fields, and the lead time.
    In evaluation its correction is damped by a factor of each lead time and variable,
    `correction`, see `damping_factors`.

    Arguments:
        network: The function :math:`f`, with `num_inputs` features.
        guess: The linear guess, in the units of the states.
        static: Static fields, ``(G, S)``.
        interior: 1 where the forecast is made, ``(G,)``.

    References:
        Chevillon (2007), Direct multi-step estimation and forecasting,
        doi.org/10.1111/j.1467-6419.2007.00518.x.
    """

    static: Tensor
    interior: Tensor

    def __init__(
        self, network: GridNetwork, guess: DayGuess, static: Tensor, interior: Tensor
    ) -> None:
        super().__init__()
        self.network = network
        for name, value in guess._asdict().items():
            if isinstance(value, Tensor):
                self.register_buffer(f"guess_{name}", value, persistent=False)
        self.shape, self.sees_boundary = guess.shape, guess.sees_boundary
        self.register_buffer("static", static)
        self.register_buffer("interior", interior[:, None] > 0)
        self.register_buffer("correction", torch.ones_like(guess.residual))

    @staticmethod
    def num_inputs(num_states: int, num_forcings: int, num_static: int) -> int:
        """Features of a grid node that the network sees."""
        return 6 * num_states + num_forcings + num_static + 3

    @property
    def guess(self) -> DayGuess:
        """The guess, on the module's device."""
        tensors = {name: getattr(self, f"guess_{name}") for name in _TENSORS}
        return DayGuess(**tensors, shape=self.shape, sees_boundary=self.sees_boundary)

    def prepare(self) -> Any:
        """The network's embeddings."""
        return self.network.embed()

    def forward(
        self, state: Tensor, previous: Tensor, forcing: Tensor, boundary: Tensor, prepared: Any
    ) -> Tensor:
        """States at the lead times, ``(G, R, V)``.

        Arguments:
            state: At the analysis time, ``(G, R, V)``.
            previous: The states of the day and of the step before it, and that of the step before
                the lead time, which is read on the boundary alone, ``(P + 2, G, R, V)``.
            forcing: Window around the lead time, ``(G, R, F)``.
            boundary: State at the lead time, read on the boundary alone, ``(G, R, V)``.
            prepared: `DirectRows`.
        """
        rows: DirectRows = prepared
        guess = self.guess
        past = torch.cat((previous[:-1], state[None])).permute(2, 0, 1, 3)
        every = torch.arange(len(past), device=past.device)
        yesterday, earlier = past[every, rows.lead + 2], past[every, rows.lead + 1]
        after = torch.where(rows.lead < guess.period - 1, rows.lead + 2, 1)
        fields = (
            past[:, -1] - past[:, 1],
            past[:, -2] - past[:, 0],
            self._frame(boundary.transpose(0, 1), yesterday),
            self._frame(previous[-1].transpose(0, 1), earlier),
            yesterday - past[:, 1],
            past[:, -1] - past[:, -2],
            past[every, after + 1] - past[every, after],
        )
        seen = Predictors(*(field / guess.scale for field in fields))
        linear = apply_guess(seen, guess, rows.block, rows.lead)
        # On the boundary the network sees what is given there.
        shown = torch.where(self.interior, linear, seen.future)
        output = self._network(self._inputs(shown, seen, forcing, rows.lead), rows.embedded)
        change = linear + self._kept(output * guess.residual[rows.lead][:, None], rows.lead)
        return (yesterday + change * guess.scale).transpose(0, 1)

    def _kept(self, correction: Tensor, lead: Tensor) -> Tensor:
        """What is left of a correction once it is damped."""
        if self.training:
            return correction
        factor = self.correction[lead][:, None]
        # where, not a product: a network that isn't used may say anything.
        return torch.where(factor > 0, correction * factor, 0.0)

    def _frame(self, state: Tensor, yesterday: Tensor) -> Tensor:
        """Change since yesterday on the boundary, zero in the interior or where unknown."""
        if not self.sees_boundary:
            return torch.zeros_like(yesterday)
        # where, not a product with the mask: the future interior may hold anything.
        return torch.where(self.interior, 0.0, state - yesterday)

    def _inputs(self, shown: Tensor, seen: Predictors, forcing: Tensor, lead: Tensor) -> Tensor:
        fields = (shown, seen.now, seen.before, seen.step, seen.cycle, seen.following)
        fraction = (lead + 1)[:, None, None] / self.guess.period
        angle = torch.pi * fraction
        clock = torch.cat((fraction, angle.sin(), (lead[:, None, None] == 0).float()), dim=-1)
        size, nodes = shown.shape[:2]
        static, clock = self.static.expand(size, -1, -1), clock.expand(-1, nodes, -1)
        return torch.cat((*fields, forcing.transpose(0, 1), static, clock), dim=-1)

    def _network(self, inputs: Tensor, embedded: Any) -> Tensor:
        output: Tensor = self.network(inputs.transpose(0, 1), embedded)
        return output.transpose(0, 1)


class DirectPredictor(nn.Module):
    """Forecasts of chosen lead times, by a step predictor around a `DirectResidual`.

    Arguments:
        predictor: Takes the lead times of windows as rows of a batch, in physical units.
    """

    __str__ = in_a_line

    def __init__(self, predictor: StepPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    @property
    def residual(self) -> DirectResidual:
        """What the wrappers hold."""
        return next(m for m in self.modules() if isinstance(m, DirectResidual))

    @property
    def correction(self) -> Tensor:
        """Factors of the network's correction, ``(P, V)``."""
        return self.residual.correction

    def forward(
        self, history: Tensor, forcing: Tensor, boundary: Tensor, sample: Tensor, leads: Tensor
    ) -> Tensor:
        """States at the lead times, ``(B, len(leads), G, V)``.

        Arguments:
            history: The states up to the analysis time, ``(B, P + 2, G, V)``.
            forcing: Window around each lead time, ``(B, T, G, F)``.
            boundary: States at the lead times, read on the boundary alone and only if the
                guess sees it, ``(B, T, G, V)``.
            sample: Analysis times, which say what blocks of the training they lie in, ``(B,)``.
            leads: Lead times minus one, in steps.
        """
        residual, period = self.residual, self.residual.guess.period
        if history.shape[1] != period + 2 or int(leads.max()) >= period:
            raise InputError(
                f"a direct forecast needs {period + 2} states before it and at most {period}"
                f" lead times, got {history.shape[1]} and {int(leads.max()) + 1}"
            )
        if not residual.sees_boundary:
            boundary = history[:, -1:].expand_as(boundary)
        block = self._block(sample).repeat_interleave(len(leads))
        rows = DirectRows(leads.repeat(len(history)), block, self.predictor.prepare())
        known = torch.cat((history[:, -1:], boundary), dim=1)
        past = history.repeat_interleave(len(leads), dim=0).permute(1, 2, 0, 3)
        earlier, later = (_rows(part[:, leads]) for part in (known, boundary))
        previous = torch.cat((past[:-1], earlier[None]))
        forecast = self.predictor(past[-1], previous, _rows(forcing[:, leads]), later, rows)
        return forecast.transpose(0, 1).unflatten(0, (len(history), len(leads)))  # type: ignore[no-any-return]

    def parts(
        self, history: Tensor, forcing: Tensor, boundary: Tensor, sample: Tensor, leads: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The linear forecast and the network's whole correction, ``(B, len(leads), G, V)`` each.

        The model must be in evaluation.
        """
        assert not self.training
        given = history, forcing, boundary, sample, leads
        with correcting(self.predictor, 0):
            linear = self(*given)
        with correcting(self.predictor, 1):
            return linear, self(*given) - linear

    def _block(self, sample: Tensor) -> Tensor:
        """The block of each analysis time; beyond the training, the weights fitted on all."""
        edges = self.residual.guess.blocks
        block = torch.searchsorted(edges[1:].contiguous(), sample.contiguous(), right=True)
        return torch.where(sample >= edges[0], block, len(edges) - 1)


def _rows(fields: Tensor) -> Tensor:
    """Lead times of windows as rows, ``(B, L, G, V)`` to ``(G, B L, V)``."""
    return fields.flatten(0, 1).transpose(0, 1)


def damping_factors(product: Tensor, power: Tensor) -> Tensor:
    r"""Factors in [0, 1] of a correction :math:`c` that leave the least square error.

    With :math:`r` what the linear guess leaves, :math:`\alpha = \langle r, c \rangle / \langle c, c
    \rangle`. A correction learnt from weeks of data says too much at long lead times; how much
    of it to believe, times that weren't trained on can tell.

    Arguments:
        product: Sum of the products of correction and remainder.
        power: Sum of the correction's squares.

    References:
        Copas (1983), Regression, prediction and shrinkage, Journal of the Royal Statistical Society
        B 45.
    """
    # Bounds: a negative factor or one above 1 would extrapolate from the validation weather.
    return torch.where(power > 0, product / power.clamp(min=1e-30), 0.0).clamp(0, 1)
