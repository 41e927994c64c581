"""Writes to Halo what differs, and records the outcome of each write.

How a payment's push runs, in this order:

1. `Pusher.push` takes the push lease (`lease`) and reads from the store which payments are due.
2. `read_back.AllRows` reads rows of the PSA into the store, as long as that saves requests.
3. `Lookup.decide` gets each payment's rows and calls `core.rules.decisions.decide`. Updates
   and creates are collected in `Decided`; every other decision is recorded at once. Until an update
   is proven in this tenant, `proof.Prover` sends one payment's rows alone first.
4. `Updater.send` writes one list of rows per batch; `Inserter.insert` writes one new row at a time.
   Both pass a guard (`guard`) to the sink, which asks the guard right before each request.
5. The answer proves only the rows that it lists as they were sent. `Outcomes` turns what was proven
   into an Outcome; `store.record` records outcomes in one transaction.
6. `Backlog.finish` decides whose fault each failed request was (`blame`), and postpones the
   payments at fault.

To run something before the first write of a push, change `Pusher._chunk`, between 3 and 4; to see
each proven write, change `Updater._updated` and `Inserter._inserted`.

Everything that is due is in the store, so a push that was stopped at any point simply starts again.
What a request left open stays due, and the next round reads the PSA before it writes anything.
"""
