// Package rebuild builds a view in Redis again from the outbox's log, beside the
// view that answers, while writers and readers go on.
//
// Every key of such a view has the name of a generation in it. A [Tracker] knows
// which generations each view has; the process that keeps the view asks it:
//
//	t, err := rebuild.NewTracker(rdb, "view:", "orders")
//
//	// a consumer writes each batch to every generation
//	err = t.Write(ctx, func(ctx context.Context, all map[string]cache.Generations) error {
//		_, err := orders.In(all["orders"]).PutAll(ctx, puts...)
//		return err
//	})
//	// a reader asks the one that answers
//	g, err := t.Of(ctx, "orders")
//	order, err := orders.In(g).Get(ctx, id)
//
// A [Builder] does the rebuild, usually in a command of its own:
//
//	Begin   a new generation exists; from now on every write goes to it too
//	wait    until every process has learned of it (HeardAfter)
//	Fold    the log, from its first position to its end, into the new generation
//	Flip    the new generation answers
//	Drop    the former generation, once every process has learned of the flip
//
// Entries that were applied before Begin are in the log; later ones reach the new
// generation from the processes that keep the view. Where both bring the same
// entry, its version decides, so writes must store only what is newer. A rebuild
// that was interrupted goes on where it stopped; Abort gives it up.
//
// # For implementers
//
// A [Builder] drives the generations by [Tracker.Begin], [Tracker.Current],
// [Tracker.Flip] and [Tracker.Drop]; a [View] whose keys are its own finds them by
// [Tracker.KeyPrefix] and [Tracker.ScanKeys], and reports what it [Folded] and what is
// [Finished].
package rebuild
