"""The life of a step: found among what is recorded, decided, replayed or executed, and written down."""
