"""The simulated Halo: what a tenant stores, what it shows, and what it refuses."""

from syncd.sandbox.halo.service import NEW_STATUS, STATUS, SandboxHalo

__all__ = ["NEW_STATUS", "STATUS", "SandboxHalo"]
