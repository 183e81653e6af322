// Package pipeline embeds all of Millrace in a Go service as one value.
//
// A Pipeline has an outbox in the service's own Postgres, a relay that carries
// its messages to Kafka, consumer groups, and scheduled jobs. One constructor
// wires them, one Run runs them:
//
//	p, err := pipeline.New(db, brokers, pipeline.Config{})
//	pipeline.Handle(p.Group("views", pipeline.GroupConfig{}), "order.v1", consumer.JSON[Order], show)
//	go http.ListenAndServe(":8081", p.Handler()) // /livez, /readyz, /metrics
//	err = p.Run(ctx)
//
// The service appends messages in its own transactions (Append, InTx). Handlers
// get decoded values one at a time (Handle) or many at once (HandleBatch), or
// have an effect in Postgres exactly once per event (HandleOnce).
//
// The defaults are the safe ones. A dependency that cannot be reached pauses a
// group instead of filling its dead letters; see Unavailable. A message that
// cannot be handled becomes a dead letter. Every loss of contact, every return,
// every dead letter and every parked message is logged, with the trace of the
// message that it concerns.
//
// Run waits for servers that are not there yet, and /readyz names them. At a stop
// consumers and jobs end first and the relay after them. What the relay has not read
// by then waits in the table for the next start. A graceful stop repeats nothing.
//
// Parts returns what the pipeline is made of, for all that this package does not
// cover. docs/embedding.md is the guide.
package pipeline
