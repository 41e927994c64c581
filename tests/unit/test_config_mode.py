"""How syncd determines Stripe's mode, live or test."""

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
    """The key decides the mode, then stripe.mode, then the stored mode; otherwise the mode is unknown."""
    assert mode_of(key, configured, remembered) is mode


def test_objects_and_keys() -> None:
    """An object shows its mode; a key may not show one."""
    assert (mode_of_object(livemode=True), mode_of_object(livemode=False)) == (Mode.LIVE, Mode.TEST)
    assert mode_of_key("rk_1") is None
