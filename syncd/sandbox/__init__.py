"""A simulated Stripe and Halo on loopback, for the demo, the tests and the benchmark.

Both are as strict and as faulty as the real services are known to be. They import nothing from the
rest of the program, so that a misunderstanding cannot be hidden on both sides.
"""

from syncd.sandbox.faults import Fault
from syncd.sandbox.halo import SandboxHalo
from syncd.sandbox.http import Request
from syncd.sandbox.server import Sandbox
from syncd.sandbox.stripe import SandboxStripe

__all__ = ["Fault", "Request", "Sandbox", "SandboxHalo", "SandboxStripe"]
