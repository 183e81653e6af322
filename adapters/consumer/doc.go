// Package consumer assembles Watermill routers that do not lose, reorder or
// silently drop messages.
//
// A [Router] runs handlers behind one fixed chain, outermost first:
//
//	subscriber
//	   │ message or batch
//	   ▼
//	trace            continue the trace of the record
//	target group     acknowledge what was replayed for another group
//	dead letter ───► <topic>.dlt, for what cannot be handled
//	[WithAround]     sees a delivery once
//	retry            wait and try again, by a Policy
//	pause       ───► hold the partition while a dependency is unavailable
//	[WithInside]     sees each attempt
//	timeout
//	recover          a panic is an error
//	   │
//	   ▼
//	handler
//
// A handler that fails is retried by a [Policy]. A message that cannot succeed
// becomes a dead letter, in the format of package deadletter. The source offset
// moves only after the broker has the dead letter. If a dependency of the handler
// cannot be reached ([IsUnavailable]), no message becomes a dead letter for that:
// its partition is paused until the dependency is back. A delivery whose context
// ended (shutdown, rebalance) is neither success nor failure: it is not
// acknowledged, not counted, never a dead letter.
//
// [Router.HandleBatch] gives a handler many messages at once and splits a batch that
// fails. [WithBreaker] pauses partitions for other failures too. Package inbox makes
// effects in Postgres once, package quarantine keeps the order of keys through dead
// letters, and package deadletter lists and replays dead letters. [Middlewares]
// returns the chain for a stock message.Router.
//
// # For implementers
//
// [BatchSubscriber], [Pauser], [Tracer]
//
// Reference code: no compatibility promise before 1.0.
package consumer
