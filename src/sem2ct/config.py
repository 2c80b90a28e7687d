"""The door to the settings: one frozen model per command.

The values come from the YAML files in configs/; `sem2ct.settings` says what they mean.
"""

from typing import Any

from sem2ct.settings.cyclegan import TrainCycleganSettings, TranslateSettings
from sem2ct.settings.evaluate import EvaluateSettings
from sem2ct.settings.extract import ExtractSettings
from sem2ct.settings.shared import RunSettings
from sem2ct.settings.stylegan import SynthesizeSettings, TrainStyleganSettings

MODELS: dict[str, type[RunSettings]] = {
    "extract": ExtractSettings,
    "train_stylegan": TrainStyleganSettings,
    "synthesize": SynthesizeSettings,
    "train_cyclegan": TrainCycleganSettings,
    "translate": TranslateSettings,
    "evaluate": EvaluateSettings,
}


def build(stage: str, values: dict[str, Any]) -> RunSettings:
    """Checks plain values against the settings of one command.

    Args:
        stage: One of `MODELS`, with underscores.
        values: Setting names to plain values.

    Returns:
        The frozen settings.

    Raises:
        pydantic.ValidationError: If a key is unknown, missing, or a value is not allowed.
    """
    return MODELS[stage].model_validate(values)
