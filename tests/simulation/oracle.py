"""The oracle: it knows what really happened to each payment, and checks the result.

At the end it compares every payment with the decision table, and every request with the limits. The table is
written here a second time from what is known of Stripe and Halo. Each check is one sentence: see CHECKS.
"""

from __future__ import annotations

import json
from typing import Any

from tests.simulation.story import DAY, HOUR, MINUTE
from tests.simulation.universe import Truth
from tests.simulation.watch import CHECKS, Complaint, Watch, busiest, fits

UNTRIED_SECONDS = 50.0 * HOUR
"""Stopped writes are tried again after a day; where another host's clock is ahead, a day later."""

LAST_SWEEP_SECONDS = 1_400
"""How long before a check the last sweep began."""


class Oracle(Watch):
    """Checks the end of a story."""

    def check_after_polls(self) -> None:
        """Check what polls alone must have achieved."""
        listed = self._listed()
        for truth in self.world.truths.values():
            if self._findable(truth) and truth.steps[-1].shown and not self._stirred(truth):
                self._judge(truth, listed, "late", lenient=True)

    def check_after_sweep(self) -> None:
        """Check what a sweep must also have found."""
        listed = self._listed()
        for truth in self.world.truths.values():
            if self._findable(truth):
                self._judge(truth, listed, "lost", lenient=True)

    def check_at_the_end(self) -> None:
        """Check everything."""
        listed = self._listed()
        for truth in self.world.truths.values():
            if self._findable(truth):
                self._judge(
                    truth, listed, "lost", lenient=not self.theatre.setting["person_retries"]
                )
        self._check_tenant(listed)
        self._check_tried(listed)
        self._check_odd(listed)
        self._check_reversals(listed)
        self._check_budgets()
        self._check_secrets()

    def _stirred(self, truth: Truth) -> bool:
        """Whether others wrote the payment's rows after its last state: only a sweep finds that."""
        return max(truth.disturbed_at, truth.unawaited_at) >= truth.steps[-1].at

    def _tried_daily(self, truth: Truth) -> bool:
        """Whether rows appeared for a refused insert: syncd finds them at the next retry, within a day."""
        return truth.unawaited_at > self.world.now() - 25 * HOUR

    def _findable(self, truth: Truth) -> bool:
        """Whether syncd can know the payment's last state at all."""
        if not truth.steps:
            return False
        if truth.steps[-1].shown and not (truth.touched and self._stopped_long()):
            return True
        if truth.touched:
            return False
        young = truth.created > self.world.now() - 3 * DAY + HOUR
        return young or any(step.shown for step in truth.steps)

    def _stopped_long(self) -> bool:
        return self.world.loop.time() > 30 * DAY

    def _listed(self) -> dict[str, Any]:
        process = self.theatre.daemons["daemon"]
        return {entry.id: entry for entry in process.store.people.attention()}

    def _judge(self, truth: Truth, listed: dict[str, Any], check: str, *, lenient: bool) -> None:
        """Compare one payment's rows with the table."""
        if any(name.startswith("writes_") for name in listed):
            return  # nothing is written in this tenant, see _check_tenant
        entry = listed.get(truth.intent_id)
        if truth.intent_id in map(self.world.owner, self.world.harmed()):
            return
        if check == "late" and truth.intent_id in map(self.world.owner, self.hurt):
            return  # the next sweep checks a row that was restored
        dismissed = self.dismissed_at.get(truth.intent_id)
        if dismissed is not None and dismissed >= truth.steps[-1].at:
            return  # a person dismissed the payment
        last_change = max(truth.disturbed_at, truth.unawaited_at)
        if last_change > self.world.now() - LAST_SWEEP_SECONDS:
            return  # the next sweep finds this change
        if entry is not None and entry.code == "stripe_contradicts_itself" and truth.undecidable:
            return
        if entry is not None and entry.code == "halo_refuses" and self._tried_daily(truth):
            return
        rows = self.world.halo.rows_of(truth.intent_id)
        owned = (row for row in self.hurt if self.world.owner(row) == truth.intent_id)
        emptied = not rows and any(f"row_{row}" in listed for row in owned)
        if emptied and (entry is None or entry.code == "row_deleted"):
            # A person deleted the row that a write had emptied: the row's own entry is on the list.
            # Until the entry is dismissed, the payment may be held or not.
            return
        # If whole rows are sent, Halo does not accept a row's own amount that is a text.
        untaken = any(isinstance(row["amount"], str) for row in rows)
        if entry is not None and untaken and ".amount:" in entry.reason:
            return
        needs, number = self._needs(truth, rows)
        told = f"{truth.label} is {truth.state}"
        if needs:
            if entry is None:
                # Payments that were found not to be Halo's stay so when `create_missing` is switched on.
                always = self.theatre.story.setting["create_missing"] or rows or truth.deleted
                if always and not (lenient and self._stirred(truth)):
                    self.complain("unlisted", f"{told}; {'/'.join(sorted(needs))}")
            elif entry.code not in needs and not (
                lenient
                and (self._stale(truth) or (check == "late" and self._was_refused(entry.code)))
            ):
                self.complain("false alarm", f"{told}; {entry.code}, not {'/'.join(sorted(needs))}")
            return
        if entry is not None:
            refused = check == "late" and self._was_refused(entry.code)
            if not (lenient and (self._stale(truth) or refused)):
                self.complain("false alarm", f"{told}; {entry.code}: {entry.reason}")
            return
        wrong = [row["id"] for row in rows if row["status"] != number]
        if wrong:
            self.complain(
                check, f"{told} ({number}), rows {wrong} have {[r['status'] for r in rows]}"
            )
        if not rows and self._must_exist(truth):
            self.complain(check, f"{told} and has no row on invoice {truth.invoice}")

    def _stale(self, truth: Truth) -> bool:
        """Whether a hold may have had a reason: somebody changed the rows or the configuration."""
        return truth.disturbed_at > 0 and (
            truth.disturbed_at >= truth.steps[0].at or truth.touched or self.configured_at > 0
        )

    def _was_refused(self, code: str) -> bool:
        """Whether Stripe refused to show a payment once: only a sweep reads it again."""
        return code == "stripe_unreadable" and self.world.figures["fault 400"] > 0

    def _must_exist(self, truth: Truth) -> bool:
        setting = self.theatre.setting
        return bool(
            setting["create_missing"]
            and self.theatre.story.setting["create_missing"]
            and truth.invoice is not None
            and not truth.deleted
        )

    def _needs(self, truth: Truth, rows: list[dict[str, Any]]) -> tuple[set[str], int | None]:
        """The codes with which the payment must be listed, by the decision table; the right number."""
        setting, halo = self.theatre.setting, self.world.halo
        state = truth.state
        assert state is not None
        unset = setting["unset"]
        number = None if state in unset else halo.status[state]
        poisoned = truth.intent_id in halo._poison
        if not rows:
            return self._needs_without_rows(truth, number, poisoned=poisoned), number
        if number is None:
            return {"status_not_configured"}, None
        if all(row["status"] == number for row in rows):
            return set(), number
        if state == "succeeded":
            if setting["on_amount_mismatch"] == "hold":
                received = self.world.stripe.intents[truth.intent_id]["amount_received"]
                total = self.world.sum_of_rows(truth)
                if truth.decimals is None:
                    return {"currency_unknown"}, number
                if total is None:
                    return {"amount_unreadable"}, number
                if not fits(total, received, truth.decimals):
                    return {"amount_mismatch"}, number
        elif "succeeded" in unset:
            return {"status_not_configured"}, number
        elif any(row["status"] == halo.status["succeeded"] for row in rows):
            return {"halo_says_succeeded"}, number
        # If whole rows are sent, Halo refuses an amount that is neither a number nor a number's text.
        whole = self.world.tenant in ("refuse", "empty", "empties later")
        refused = poisoned or (whole and not self.world.has_numbers(truth))
        return ({"halo_refuses"} if refused else set()), number

    def _needs_without_rows(self, truth: Truth, number: int | None, *, poisoned: bool) -> set[str]:
        renewed = self.renewed_at.get(truth.intent_id, -1.0) > truth.disturbed_at
        if truth.deleted and truth.intent_id in self.proven and not renewed:
            return {"row_deleted"}
        setting = self.theatre.setting
        if not setting["create_missing"] or truth.invoice is None:
            return set()
        if not truth.invoice.isdigit():
            return {"invoice_unreadable"}
        if number is None:
            return {"status_not_configured"}
        if truth.decimals is None:
            return {"currency_unknown"}
        if poisoned or int(truth.invoice) not in self.world.halo.invoices:
            return {"halo_refuses"}
        return set()

    def _check_tenant(self, listed: dict[str, Any]) -> None:
        """Damage by writes is limited to one payment or one list, and the attention list shows it."""
        tenant, harmed = self.world.tenant, self.world.harmed()
        stopped = [entry for name, entry in listed.items() if name.startswith("writes_")]
        owners = {self.world.owner(number) for number in harmed}
        most = self._largest_batch() if tenant == "empties later" else 1
        if len(owners) > max(1, most):
            self.complain("harmed", f"rows {harmed}")
        named = {name for name in listed if name.startswith("row_")}
        if harmed and not (stopped or named):
            self.complain("harmed", f"rows {harmed}, and nothing says so")
        if tenant == "drop status" and self.unstored and not stopped and not self.read_back:
            self.complain("unsaid", "statuses are not stored, and the list has no entry for it")
        if tenant in ("merge", "refuse", "empty", "drop trace"):
            for entry in stopped:
                # A restored row does not yet show whether an update with all columns works.
                lasts = harmed or self.update_proven_at < self.hurt_at
                if entry.code != "writes_refused" and not (tenant == "empty" and lasts):
                    self.complain("false alarm", f"{entry.id} in a tenant that can {tenant}")

    def _check_tried(self, listed: dict[str, Any]) -> None:
        """Updates that are stopped are tried again, if a payment waits whose rows Halo would take."""
        if "writes_not_stored" not in listed or self.world.tenant != "drop status":
            return
        last = max((at for sent in self.updates.values() for at, _ in sent), default=0.0)
        waiting = [truth for truth in self.world.truths.values() if self._waits(truth, listed)]
        if waiting and last < self.world.now() - UNTRIED_SECONDS:
            self.complain(
                "untried", f"{waiting[0].label} waits, and the last update is too long ago"
            )

    def _waits(self, truth: Truth, listed: dict[str, Any]) -> bool:
        """Whether nothing but the stop keeps a payment's rows from their number."""
        rows = self.world.halo.rows_of(truth.intent_id)
        if not self._findable(truth) or not rows or truth.intent_id in listed:
            return False
        needs, number = self._needs(truth, rows)
        kept = self._stirred(truth) or truth.intent_id in self.dismissed_at
        return not needs and not kept and any(row["status"] != number for row in rows)

    def _largest_batch(self) -> int:
        """The most rows that one list may have had in this story."""
        story = self.theatre.story
        changes = (action.args.get("changes", {}) for action in story.actions)
        return max(int(change.get("batch", 1)) for change in (story.setting, *changes))

    def _check_odd(self, listed: dict[str, Any]) -> None:
        for name, (shape, at) in self.world.odd.items():
            if any(start - DAY < at < end - 29.9 * DAY for start, end in self.world.stops):
                continue  # Stripe deleted the event while syncd was stopped
            if shape == "other_type":
                if name in listed:
                    self.complain("false alarm", f"{name} of a type that says nothing")
            elif name not in listed:
                self.complain("unlisted", f"the event {name} ({shape}) can't be read")
        known = {*self.world.by_intent, *self.world.odd, *self.world.reversals}
        for name, entry in listed.items():
            if name in ("refunds_unknown", "disputes_unknown") and self._stopped_long():
                continue  # reversals that the key may not list, and that no event shows any more
            if name.startswith("row_") and int(name.removeprefix("row_")) in self.hurt:
                continue  # the entry stays until a person dismisses it, also if the row was restored
            if self._changed_with_others(name):
                continue  # syncd cannot tell this from a side effect, and asks a person
            if name not in known and name != "pi_odd" and not name.startswith("writes_"):
                self.complain("false alarm", f"{name}: {entry.reason}")

    def _changed_with_others(self, name: str) -> bool:
        """Whether an entry is about a row that a person changed, together with another payment's row.

        Where one row of a list is not as it was, a person has changed it; of several rows, nobody can know.
        """
        born = self.world.born
        changed = {n: at for n, at in self.world.changed_at.items() if at > born.get(n, at)}
        number = int(name.removeprefix("row_")) if name.startswith("row_") else 0
        return number in changed and any(
            self.world.owner(row) != self.world.owner(number) and abs(at - changed[number]) < MINUTE
            for row, at in changed.items()
        )

    def _check_reversals(self, listed: dict[str, Any]) -> None:
        """A reversal of a payment that Halo shows as paid is listed; other reversals are not."""
        paid = self.world.halo.status["succeeded"]
        long_stop = any(end - start > 31 * DAY for start, end in self.world.stops)
        if long_stop and not self.theatre.setting["reversals"] and "refunds_unknown" not in listed:
            self.complain("unlisted", "refunds that Stripe can't show any more")
        for name, truth in self.world.reversals.items():
            rows = self.world.halo.rows_of(truth.intent_id)
            if truth.intent_id in self.dismissed_at or not self._findable(truth):
                continue
            halos = bool(rows) or truth.deleted > 0 or truth.intent_id in listed
            if name in listed and not halos:
                self.complain("false alarm", f"{name} of {truth.label}, which isn't Halo's")
            settled = rows and all(row["status"] == paid for row in rows)
            shown = self.theatre.setting["reversals"] or not self._stopped_long()
            if settled and shown and name not in listed:
                self.complain("unlisted", f"{name}: money of {truth.label} went back")

    def _check_budgets(self) -> None:
        forward = sum(1 for jump in self.jumps if jump > 0)
        skewed = bool(self.jumps) and (
            self.theatre.setting["second_daemon"] == "other_host"
            or self.theatre.figures["host b"] > 0
        )
        if skewed:
            return  # two hosts with different clocks cannot share a window
        setting = self.theatre.setting
        # By the time when they left: the network's delay is unknown to syncd.
        for name, times, period, limit in (
            ("Halo", self.world.left_at["halo"], 300.0, setting["rate_limit"]),
            ("Stripe", self.world.left_at["stripe"], 30.0 * DAY, setting["read_budget"]),
        ):
            most = busiest(times, period)
            if most > limit * (1 + forward):
                self.complain(
                    "budget", f"{most} requests to {name} in {period:.0f} s, {limit} allowed"
                )

    def _check_secrets(self) -> None:
        stripe, halo = self.world.stripe, self.world.halo
        secrets = {stripe.api_key, halo.client_secret, *halo._tokens}
        secrets |= {intent["client_secret"] for intent in stripe.intents.values()}
        places = {
            "the log": "\n".join(self.said),
            # A whole row contains what Halo itself stores of the intent and of events, unchanged.
            "what syncd wrote to Halo": json.dumps(
                [
                    {
                        name: value
                        for name, value in posted.items()
                        if new
                        or "invoice_id" not in posted
                        or name not in ("intent_response", "webhook_payload")
                    }
                    for _, posted, new in halo.writes
                ]
            ),
            "the store": self.theatre.store_bytes().decode("latin-1"),
            "the list": repr(self._listed()),
            "the metrics": self.theatre.metrics(),
        }
        for place, text in places.items():
            for secret in secrets:
                if secret in text:
                    self.complain("secret", f"{secret[:12]}… stands in {place}")


__all__ = ["CHECKS", "Complaint", "Oracle"]
