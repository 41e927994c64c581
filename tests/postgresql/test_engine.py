"""The engine's tests on PostgreSQL: all of them in CI, otherwise a representative set; and commands' tests."""

import os

from tests import test_attention, test_engine, test_new_rows, test_process, test_refunds
from tests.postgresql import borrowed

CI = "CI" in os.environ

SQLITE_ALONE = ("test_commits_at_rest",)
"""Tests that read SQLite's file; `test_round_trips` has the same limit for a server."""

if CI:
    globals().update(
        {
            name: test
            for name, test in borrowed(test_engine, "test_").items()
            if name not in SQLITE_ALONE
        }
    )

globals().update(
    borrowed(
        test_engine,
        "test_update",
        "test_unmatched",
        "test_create",
        "test_hold_is_lifted",
        "test_five_events",
        "test_two_events",
        "test_final_stays",
        "test_at_rest",
        "test_gap_is_filled",
        "test_sweep_reads",
        "test_sweep_finds",
        "test_backfill",
        "test_a_fault_on_an_update",
        "test_poisoned_row",
        "test_halo_window_survives",
        "test_lease_of_a_process",
        "test_state_that_comes_while_pushing",
        "test_resync",
        "test_an_insert_that_may_still",
    )
    | borrowed(test_new_rows, "test_a_late_process", "test_an_earlier_insert")
    | borrowed(test_refunds, "test_a_dismissed_dispute", "test_nothing_is_pruned", "test_garbage")
    | borrowed(
        test_attention, "test_one_entry_whole", "test_what_was_dismissed", "test_one_payment"
    )
    | borrowed(
        test_process,
        "test_the_daemon",
        "test_stop_finishes",
        "test_killed_in_the_middle",
        "test_once_and_status",
        "test_attention_retry_dismiss",
        "test_backfill_and_dry_run",
        "test_dry_run_with_nothing",
        "test_backfill_beside_the_daemon",
    )
)
