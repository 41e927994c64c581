"""The daemon: scheduling, signals, systemd.

What a poll or a push does belongs in `sync`.
"""
