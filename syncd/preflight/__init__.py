"""Everything that can be checked before the first push: `syncd check` and `syncd calibrate`.

Read-only, except for a test message that the user requests.
"""
