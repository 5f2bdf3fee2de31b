from importlib import import_module
from pathlib import Path

import ardm_guidance


def test_every_public_name_is_there():
    assert {*ardm_guidance._EXPORTS, *ardm_guidance._MODULES} <= set(dir(ardm_guidance))
    for name in (*ardm_guidance._EXPORTS, *ardm_guidance._MODULES):
        assert getattr(ardm_guidance, name) is not None


def test_every_module_says_what_it_exports():
    for path in Path(ardm_guidance.__file__).parent.glob("[a-z]*.py"):
        module = import_module(f"ardm_guidance.{path.stem}")
        assert module.__doc__
        assert all(hasattr(module, name) for name in module.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(ardm_guidance, "nothing")
