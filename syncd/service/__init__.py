"""The daemon: scheduling, signals, systemd.

Does not belong here: what a poll or a push does (`sync`).
"""
