"""A Stripe and a Halo on loopback: for the demo, the tests and the benchmark.

They are as strict and as nasty as the two services are known to be, and know nothing of the rest of
the program: a misunderstanding must not be able to hide on both sides.
"""

from syncd.sandbox.faults import Fault
from syncd.sandbox.halo import SandboxHalo
from syncd.sandbox.http import Request
from syncd.sandbox.server import Sandbox
from syncd.sandbox.stripe import SandboxStripe

__all__ = ["Fault", "Request", "Sandbox", "SandboxHalo", "SandboxStripe"]
