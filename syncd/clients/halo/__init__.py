"""The client of Halo: sign-in, requests, and parsing of its answers.

Nothing outside this package knows Halo's JSON.
"""
