"""Sequential Monte Carlo with fully adapted proposals: the tilted conditionals."""

from ardm_guidance.guidance.proposals import Proposing, fully_adapted
from ardm_guidance.methods.corrected import Corrected

__all__ = ["FADG"]


class FADG(Corrected):
    """Propose from the tilted conditionals; their sums are the weights.

    References:
        Pitt & Shephard (1999), auxiliary particle filters;
        Ekström Kelvinius & Lindsten et al. (2024).
    """

    @property
    def propose(self) -> Proposing:
        """How each site is proposed."""
        return fully_adapted
