"""What to do about a payment: the decision table, a payment's conditions, and proofs of writes.

Does not belong here: the values that the rules work on (`core`), and the code that carries the
decisions out (`sync`).
"""
