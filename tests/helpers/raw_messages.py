"""Signs of raw messages of Hydra, OmegaConf and Python, which users must not see."""

import re

__all__ = ["RAW_TEXT"]

RAW_TEXT = re.compile(
    r"OmegaConf|Hydra|DictConfig|hydra\.cc|full_key|object_type|of type '|<class|Traceback|"
    r"\w+Error\b|defaults list to|requires --multirun|Ambiguous|Interpolation|NoneType|"
    r"invalid \w+ value|Could not"
)
