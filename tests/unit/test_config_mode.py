"""Stripe's mode, live or test: one rule."""

import pytest

from syncd.config.mode import Mode, mode_of, mode_of_key, mode_of_object


@pytest.mark.parametrize(
    ("key", "configured", "remembered", "mode"),
    [
        ("rk_live_1", "", None, Mode.LIVE),
        ("sk_test_1", "", None, Mode.TEST),
        ("sk_org_live_1", "", None, Mode.LIVE),
        ("rk_live_x_test_y", "", None, Mode.LIVE),
        ("whatever", "test", None, Mode.TEST),
        ("whatever", "live", "test", Mode.LIVE),
        ("rk_live_1", "", "test", Mode.LIVE),
        ("", "", "test", Mode.TEST),
        ("", "", None, None),
        ("whatever", "", "odd", None),
    ],
)
def test_mode(key: str, configured: str, remembered: str | None, mode: Mode | None) -> None:
    """The key decides, then stripe.mode, then what the service remembered; else nobody knows."""
    assert mode_of(key, configured, remembered) is mode


def test_objects_and_keys() -> None:
    """An object names its mode; a key may not."""
    assert (mode_of_object(livemode=True), mode_of_object(livemode=False)) == (Mode.LIVE, Mode.TEST)
    assert mode_of_key("rk_1") is None
