"""The rules, pure: payments, states, money, decisions, holds, errors.

Only the standard library; no clock, no randomness, no I/O. Time and random numbers are arguments.
"""
