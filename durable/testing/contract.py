"""The contract of `durable.stores.Store`, one sentence a test."""

from durable.testing.messages import MessagesContract
from durable.testing.ownership import OwnershipContract
from durable.testing.reading import ReadingContract
from durable.testing.writing import WritingContract


class StoreContract(OwnershipContract, WritingContract, ReadingContract, MessagesContract):
    """Every test that a store has to pass; override `make_store` and `open_again`."""
