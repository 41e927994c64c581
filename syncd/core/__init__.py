"""The rules, pure: payments, money, rows, decisions, holds, transitions, errors, request windows.

Only the standard library; no clock, no randomness, no I/O. Time and random numbers are arguments.
What needs a database belongs in `store`, what needs the network in `clients`.
"""
