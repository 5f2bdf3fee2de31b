"""Sequential Monte Carlo with bootstrap proposals: those of the model."""

from ardm_guidance.guidance.proposals import Proposing, bootstrap
from ardm_guidance.methods.corrected import Corrected

__all__ = ["BSDG"]


class BSDG(Corrected):
    """Propose from the model, weigh by the potential.

    References:
        Gordon, Salmond & Smith (1993), the bootstrap filter;
        Ekström Kelvinius & Lindsten et al. (2024).
    """

    @property
    def propose(self) -> Proposing:
        """How each site is proposed."""
        return bootstrap
