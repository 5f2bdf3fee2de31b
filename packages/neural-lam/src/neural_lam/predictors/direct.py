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
forecast
at once, and not by steps whose errors grow.

References:
    Chevillon (2007), Direct multi-step estimation and forecasting,
    doi.org/10.1111/j.1467-6419.2007.00518.x.
"""

import torch
from torch import Tensor, nn

from neural_lam.networks.grid_network import GridNetwork
from neural_lam.predictors.day_guess import DayGuess, Predictors, apply_guess
from neural_lam.shell.errors import InputError
from neural_lam.shell.showing import in_a_line

__all__ = ["DirectPredictor", "damping_factors"]


# Fields of a guess that are weights, and move with the module.
_TENSORS = tuple(name for name in DayGuess._fields if name not in {"shape", "sees_boundary"})


class DirectPredictor(nn.Module):
    r"""Forecasts of chosen lead times by a linear guess and a network's correction.

    The network sees, in units of the spread of :math:`D`: the guess, :math:`D_t`,
    :math:`D_{t-1}`, the last change :math:`X_t - X_{t-1}`, yesterday's changes over the same
    hours and the next, the forcing around the lead time, the static fields, and the lead time.
    In evaluation its correction is damped by a factor of each lead time, see `damping_factors`.

    Arguments:
        network: The function :math:`f`, with `num_inputs` features.
        guess: The linear guess.
        static: Static fields, ``(G, S)``.
        interior: 1 where the forecast is made, ``(G,)``.
        forcing_mean: ``(F,)``.
        forcing_std: ``(F,)``.

    References:
        Chevillon (2007), Direct multi-step estimation and forecasting,
        doi.org/10.1111/j.1467-6419.2007.00518.x.
    """

    __str__ = in_a_line

    static: Tensor
    interior: Tensor
    forcing_mean: Tensor
    forcing_std: Tensor
    damping: Tensor

    def __init__(
        self,
        network: GridNetwork,
        guess: DayGuess,
        static: Tensor,
        interior: Tensor,
        forcing_mean: Tensor,
        forcing_std: Tensor,
    ) -> None:
        super().__init__()
        self.network = network
        for name, value in guess._asdict().items():
            if isinstance(value, Tensor):
                self.register_buffer(f"guess_{name}", value, persistent=False)
        self.shape, self.sees_boundary = guess.shape, guess.sees_boundary
        self.register_buffer("static", static)
        self.register_buffer("interior", interior[:, None] > 0)
        self.register_buffer("forcing_mean", forcing_mean)
        self.register_buffer("forcing_std", forcing_std)
        self.register_buffer("damping", torch.ones_like(guess.residual))

    @staticmethod
    def num_inputs(num_states: int, num_forcings: int, num_static: int) -> int:
        """Features of a grid node that the network sees."""
        return 6 * num_states + num_forcings + num_static + 3

    @property
    def guess(self) -> DayGuess:
        """The guess, on the module's device."""
        tensors = {name: getattr(self, f"guess_{name}") for name in _TENSORS}
        return DayGuess(**tensors, shape=self.shape, sees_boundary=self.sees_boundary)

    def forward(
        self, history: Tensor, forcing: Tensor, boundary: Tensor, sample: Tensor, leads: Tensor
    ) -> Tensor:
        """States at the lead times, ``(B, len(leads), G, V)``; arguments as of `parts`."""
        linear, correction = self.parts(history, forcing, boundary, sample, leads)
        if not self.training:
            correction = correction * self.damping[leads][:, None]
        return linear + correction

    def parts(
        self, history: Tensor, forcing: Tensor, boundary: Tensor, sample: Tensor, leads: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The linear forecast and the network's correction, ``(B, len(leads), G, V)`` each.

        Arguments:
            history: The states up to the analysis time, ``(B, P + 2, G, V)``.
            forcing: Window around each lead time, ``(B, T, G, F)``.
            boundary: States at the lead times, read on the boundary alone and only if the
                guess sees it, ``(B, T, G, V)``.
            sample: Analysis times, which say what blocks of the training they lie in, ``(B,)``.
            leads: Lead times minus one, in steps.
        """
        guess, batch = self.guess, len(history)
        period = guess.period
        if history.shape[1] != period + 2 or int(leads.max()) >= period:
            raise InputError(
                f"a direct forecast needs {period + 2} states before it and at most {period}"
                f" lead times, got {history.shape[1]} and {int(leads.max()) + 1}"
            )
        lead = leads.repeat(batch)
        block = self._block(sample).repeat_interleave(len(leads))
        past = history.repeat_interleave(len(leads), dim=0)
        rows = torch.arange(len(past), device=past.device)
        now, before = past[:, -1] - past[:, 1], past[:, -2] - past[:, 0]
        yesterday, earlier = past[rows, lead + 2], past[rows, lead + 1]
        after = torch.where(lead < period - 1, lead + 2, 1)
        future = self._frame(boundary[:, leads].flatten(0, 1), yesterday)
        last = torch.cat((history[:, -1:], boundary), dim=1)[:, leads].flatten(0, 1)
        fields = (
            now,
            before,
            future,
            self._frame(last, earlier),
            yesterday - past[:, 1],
            past[:, -1] - past[:, -2],
            past[rows, after + 1] - past[rows, after],
        )
        seen = Predictors(*(field / guess.scale for field in fields))
        linear = apply_guess(seen, guess, block, lead)
        linear = torch.where(self.interior, linear, seen.future)
        inputs = self._inputs(linear, seen, forcing, leads, lead)
        correction = self._network(inputs) * guess.residual[lead][:, None]
        edge = boundary[:, leads].flatten(0, 1) if self.sees_boundary else past[:, -1]
        forecast = torch.where(self.interior, yesterday + linear * guess.scale, edge)
        correction = torch.where(self.interior, correction * guess.scale, 0.0)
        shape = (batch, len(leads), *forecast.shape[1:])
        return forecast.reshape(shape), correction.reshape(shape)

    def _block(self, sample: Tensor) -> Tensor:
        """The block of each analysis time; beyond the training, the weights fitted on all."""
        edges = self.guess_blocks
        assert isinstance(edges, Tensor)
        block = torch.searchsorted(edges[1:].contiguous(), sample.contiguous(), right=True)
        return torch.where(sample >= edges[0], block, len(edges) - 1)

    def _frame(self, state: Tensor, yesterday: Tensor) -> Tensor:
        """Change since yesterday on the boundary, zero in the interior or where unknown."""
        if not self.sees_boundary:
            return torch.zeros_like(yesterday)
        # where, not a product with the mask: the future interior may hold anything.
        return torch.where(self.interior, 0.0, state - yesterday)

    def _inputs(
        self, linear: Tensor, seen: Predictors, forcing: Tensor, leads: Tensor, lead: Tensor
    ) -> Tensor:
        fields = (linear, seen.now, seen.before, seen.step, seen.cycle, seen.following)
        size = len(lead)
        window = ((forcing[:, leads] - self.forcing_mean) / self.forcing_std).flatten(0, 1)
        fraction = (lead + 1)[:, None, None] / self.guess.period
        angle = torch.pi * fraction
        clock = torch.cat((fraction, angle.sin(), (lead[:, None, None] == 0).float()), dim=-1)
        nodes = window.shape[1]
        return torch.cat(
            (*fields, window, self.static.expand(size, -1, -1), clock.expand(-1, nodes, -1)), dim=-1
        )

    def _network(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.network(inputs.transpose(0, 1), self.network.embed())
        return output.transpose(0, 1)


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
