// Package consumer assembles Watermill routers that do not lose, reorder or
// silently park messages.
//
// A [Router] runs handlers behind one fixed chain, outermost first:
//
//	trace, target group, dead letter, [Around], retry, [Inside], timeout, recover, handler
//
// A handler that fails is retried by a [Policy]; one that cannot succeed becomes
// a dead letter: a record on <topic>.dlt with the same partition, key, value and
// headers, and with Spring Kafka's kafka_dlt-* headers, so that Java tools read
// it too. The source offset moves only after the broker has the dead letter. A
// delivery whose context ended (shutdown, rebalance) is neither success nor
// failure: it is not acknowledged, not counted, never a dead letter.
//
// [WithBreaker] lets a dependency that is down pause partitions instead; package
// quarantine keeps the order of keys through dead letters.
//
// [Router.HandleBatch] gives a handler many messages at once and takes a batch that
// fails apart. Package inbox makes effects in Postgres once.
//
// [Replay] carries dead letters back to their topic, to the failing group only;
// [Skip], [Discard] and [Park] settle them otherwise, and a [Book] records who did
// what. [List] and [Summarize] show what there is.
//
// The steps of the chain are ordinary Watermill middlewares and serve on a stock
// message.Router as well.
package consumer
