"""Which phase and network a value of the training belongs to, and what decides over it."""

from types import MappingProxyType

from sem2ct.training.soundness import MENDED

_TO_SEM = "it is of ct_to_sem in the branch CT -> SEM -> CT; "
_TO_CT = "it is of sem_to_ct in the branch SEM -> CT -> SEM; "
_JUDGES = "it is of the discriminators' phase; lower learning_rate or discriminator_width"
_BOTH = "it is of the phase of the two translators; lower learning_rate or cycle_weight"

CAUSES = MappingProxyType(
    {
        "g_sem_loss": _TO_SEM + "lower learning_rate",
        "cycle": _TO_SEM + "lower learning_rate or cycle_weight",
        "consistency_grey": _TO_SEM + "lower learning_rate or consistency_weight",
        "g_ct_loss": _TO_CT + "lower learning_rate",
        "sem_cycle": _TO_CT + "lower learning_rate or sem_cycle_weight",
        MENDED + "translators": _BOTH,
        "d_sem_loss": _JUDGES,
        "d_ct_loss": _JUDGES,
        MENDED + "judges": _JUDGES,
    }
)
