"""The configuration file, the environment and the secrets, as one frozen `Config`.

The other packages get values from here; they never read the environment themselves.
"""
