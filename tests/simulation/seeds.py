"""The seeds that are played: those that ever failed, and fresh seeds."""

import hashlib

FAILED = {
    7001003: "The host's clock was set forward while an insert was uncertain: the row was sent twice.",
    7001014: "Refunds were listed only three days back after a gap: one refund was never found.",
    7000477: "A slow Halo put a payment on the attention list, though Halo never refused it.",
    8000049: "A backfill with a key that may not list refunds put that on the attention list.",
    8000078: "The oracle took an answer that was too large for a reading: a payment whose rows could not "
    "be read was called a false alarm.",
    30000024: "A sign-in page answered a tenant's first update: syncd took it for Halo's answer, sent whole "
    "rows and stopped all writes for a day.",
    30000042: "As 30000024: three updates in a row were answered with a web page.",
    30000163: "Halo refused a tenant's first update; a web page answered the next try: all writes stopped.",
    30000171: "A web page answered a tenant's first update: later updates carried all required columns.",
    30000211: "Halo's refusal of a tenant's first update allows its required columns; the oracle did not.",
    30000200: "A hanging Halo answered an empty success, which no gateway does; and the oracle took a row "
    "without an amount for one that had lost it.",
    30001020: "A second host whose clock was behind tried again at once in a tenant that had been stopped.",
    30001021: "The oracle took a new row, refused with 403 and sent again, for one that was not looked up.",
    30001018: "A gateway passed a tenant's very first update on two minutes late: a restored row was emptied "
    "again, and the list did not say so.",
    38: "As 30001018.",
    45: "A tenant's first new row waited for the rate limit; another process sent the second one meanwhile.",
    94: "As 45.",
    74: "The oracle took an entry about a restored row for a false alarm.",
    30001040: "A proven Halo began to empty; the update that met this was not answered: a second row was emptied.",
    30001044: "As 30001040, and syncd was killed: the list did not name the emptied row.",
    20000020: "A tenant that wants whole rows refused a row whose own amount was a text: a person has to correct "
    "the row; the oracle called that a false alarm.",
    20001319: "Mended with the notes of writes without an answer.",
    20001164: "As 20001319.",
    20001258: "As 20001319.",
    1000000059: "A host's clock 40 days ahead: refunds and disputes were said to be unknown, though Stripe still "
    "kept their events. And the sweep would have begun 37 days after the present.",
    1000000067: "A tenant's first new row was not read back yet when another process sent the second one.",
    3000000042: "The process was killed right after a first update that Halo did not store; the next process "
    "tried another payment's row.",
    5550001339: "A retry of a payment whose deletion was not noticed yet: the oracle expected a new payment; only "
    "an entry `row_deleted` that is retried makes one.",
    8880001008: "The entry of an emptied row stays until a person dismisses it; the oracle did not know that.",
    6600000073: "With `push.trace = false`, a whole row brings back the payload that Halo's own webhook left: the "
    "oracle took that for a trace of syncd.",
    6600000160: "Halo did not store a first update, and refused the whole row because its own amount is a text: "
    "another payment is tried then. The oracle took the first update for one that was never read back.",
    6600000352: "Halo failed (500) on a first update and stored nothing; its row was read back unharmed. Another "
    "payment is tried then. The oracle wanted the first one to be right before.",
    6600000320: "A wait of half a microsecond: the simulated time stood still, and the story never ended.",
    6600000402: "Halo was so slow that a new row needed a minute to reach it: the oracle counted that minute.",
    6600000405: "A first update was restored while the payment moved on: its older state passed for the newer one.",
    20000000004: "A payment that was made days ago may be looked up only once; the oracle expected a day of lookups.",
    20000000055: "As 20000000004.",
    20000000118: "The database failed while the service looked whether a sweep is due. The service logs that as "
    "`store_busy`; the simulated one took it for a fault.",
    20000000133: "As 20000000118.",
    20000001058: "After a stop, the next try came 18 hours later, because the host's clock had been set forward; the "
    "oracle expected a day.",
    40000000030: "The first update of a tenant might still come late; a later part of the same push tried "
    "another row. The row was emptied, and the list did not say so.",
    40000000013: "A new row with the whole amount, on the newest page, passed for the only row of a payment whose "
    "paid row was on a page that was not read: the new row was set to paid, too.",
    50000000006: "A payment failed while the host's clock was a day ahead: after the clock was set back, it waited "
    "two days.",
    50000000026: "The answer to a tenant's first update was lost, and its row was read back unchanged. Another "
    "payment may be tried then; the oracle allowed that only after an answer 400 or 500.",
    50000000054: "A resync of a payment whose row was deleted makes it a new payment, as a retry does. The oracle "
    "did not know that.",
    50000000117: "A whole row brings back the payload that the row has, where Stripe shows no event for the state: "
    "the oracle took that for a trace of syncd.",
    50000000234: "A list without an answer is sent again, also a row that was read meanwhile to look for side "
    "effects. The oracle took that for a blind write.",
    50000000302: "Two processes read one payment, one of them in vain: the oracle forgot that when the other one "
    "could read it.",
    69000000023: "A list of whole rows was sent minutes after its rows were read: a person's change of an amount was undone.",
    93000000043: "Stripe told a newer state while a write was on its way to Halo: the oracle expected the write to be taken back.",
    96000000047: "A restoration sent back the amount that a row had before a write emptied it, over a person's amount.",
    10000000000201: "A payment left its state and came back between two polls; Halo's own webhook wrote the state in "
    "between. The row was wrong until the sweep.",
    60000000010: "A first write emptied a row, and Halo refused to take it back: later its payment got a second row.",
    60000000020: "Halo failed (500) on a tenant's first update and carried it out seconds later: another row was "
    "tried meanwhile.",
    60000000024: "A failed payment's error was cleared, and a person resynced it: its state was forgotten.",
    60000000046: "As 60000000020.",
    60000000060: "Hosts' clocks that differ list a payment early; the oracle counted by the true time.",
    60000000122: "As 60000000020, in a tenant that empties: the emptied row was sent back empty, and nothing said so.",
    60000000232: "The oracle expected a cleared failure, whose event Stripe had forgotten, to be found by polls.",
    60000000252: "As 50000000117, of a row without an amount.",
    60000000306: "The oracle took the size of lists at the beginning of a story, though it is configured anew later.",
    60000000316: "As 60000000306.",
    62000000124: "A tenant that empties had been stopped; the next day another row was tried by its changes alone, and "
    "could not be restored either.",
    62000000278: "As 62000000124.",
    62000000440: "As 62000000124.",
    64000000001: "A row whose amount is text: syncd reads it, and the oracle took it for one that can't be read.",
    10000064000003: "As 64000000001.",
    64000000033: "As 64000000001.",
    66000000003: "A person entered the payment while its first new row was unanswered: syncd took that row for its own, "
    "and stopped new rows.",
    66000000128: "An id that contains eyJ was taken for a JSON Web Token, so that the trace named no payment.",
    66000000292: "An update emptied three rows; the answer showed one of them, and a person's change was assumed.",
    66000000351: "Connections that were refused put a payment on the attention list.",
    67000000095: "A row was looked at before its update was carried out, so that its emptying in the same push was missed.",
    10000067000200: "Stripe told a newer state while an update was on its way to Halo: the oracle expected the update to be taken back.",
    10000067000333: "Halo answered an error instead of an emptied row: the row counted as deleted, and was forgotten.",
    10000067000269: "What a probe of Stripe shows was taken for what Stripe told.",
    69000000057: "Stripe refused to show a payment once, and only a sweep asks again; the oracle expected a poll to.",
    66000000702: "Halo answered a first update that it did not store, and failed on the same row's second update; its "
    "row was read back unharmed. Another payment may be tried then; the oracle expected the first one to be finished.",
    67000000687: "As 66000000702.",
    67000001261: "As 66000000702.",
    67000001274: "Halo did not store a first update, and turned the next one away (429); after a restart, another "
    "payment's row was written before the first one was finished.",
    69000000108: "As 66000000702, with a connection that broke.",
    67000000498: "While syncd read a payment's three rows one after another, Halo's own webhook set one: the row was "
    "written again with the status that it had.",
    110000000453: "Halo's sign-in failed while a first update was read back by its row's id, so that its payment's list "
    "was read instead; the oracle took that for no reading.",
    110000000458: "Halo's own webhook set the status of a first update that a gateway passed on later: syncd took the "
    "status for its own, and the row that was emptied afterwards was forgotten.",
    66000000133: "A payment was held because its emptied row could not be read; after the row was restored, that "
    "stayed so until the next sweep.",
    67000001606: "A person deleted a row that a write had emptied, and retried the payment: it is held until the row's "
    "own entry is dismissed. The oracle expected it to be new.",
    96000000032: "A person deleted a row that a write had emptied: the list names the row, and the oracle expected a "
    "second entry for its payment.",
    120000000015: "Where lists hide a row's payment, a look at a payment's rows also reads rows by their ids and tests the "
    "filter; the oracle took that for other questions.",
    120000000018: "As 120000000015.",
    120000000045: "As 120000000015.",
    120000000054: "As 120000000015.",
    120000000370: "As 120000000015.",
    120000000733: "A person's change of an amount was undone while a list was on its way, and the next list sent the row as "
    "it then was: the oracle remembered the person's amount.",
    20000000000000253: "After a restart, the rows that an interrupted push had read up to an hour before were used for an update.",
    110000000004: "As 20000000000000253.",
    110000000353: "A restoration that never reached Halo counted as a new first update, one day after the stop.",
    110000000060: "A host's clock was 40 days ahead, and requests were counted there; after that host had stopped, a "
    "push waited for room in Halo's rate limit for ever.",
    131000000013: "A push resumed behind the payment whose update comes first in a stopped tenant: nothing was written again, "
    "and a payment was read every 30 seconds.",
    10881000000111: "While an update of two payments' rows waited for its answer, a person changed the amounts of both: syncd "
    "cannot tell that from a side effect, and asks a person. The oracle called that a false alarm.",
    10881000000173: "After a gap of 33 days, Stripe failed to list payment intents: the events that it had shown before were not "
    "taken in, and a push sent the older state.",
    881000000168: "As 10881000000111.",
    88300000000010111: "A sweep read Halo's lists right after an insert, while they did not show the new row yet: the "
    "payment was held as if the row had been deleted.",
    60000000347: "A payment that was found not to be Halo's stays so when `create_missing` is switched on.",
}
"""Every seed that ever failed, each with what went wrong."""


def fresh_first(commit: str) -> int:
    """The first fresh seed of a commit: the same for the same commit, far from those of other commits."""
    digest = hashlib.sha256(commit.encode()).digest()
    return 10_000_000 + int.from_bytes(digest[:5], "big") * 100_000
