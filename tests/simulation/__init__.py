"""A deterministic simulator: the real engine, store and adapters in a world that a seed decides."""
