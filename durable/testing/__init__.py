"""What every checkpoint store has to do, as tests: a store that passes `StoreContract` can be used by the engine.

Subclass it in a test module, give it `make_store` and, for a store that outlives its process, `open_again`; pytest
collects the methods. It needs no plugin.
"""

from durable.testing.cases import make_run, make_step
from durable.testing.contract import StoreContract

__all__ = ["StoreContract", "make_run", "make_step"]
