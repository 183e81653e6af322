// Package outbox is a transactional outbox: a log of messages that a service writes
// in the same Postgres transaction as the entity that changed, and a relay that
// carries them to a broker. Delivery is at least once; per key, messages are first
// delivered in commit order.
//
//	       service                                      relay
//	          |                                           |
//	tx: INSERT entity                          Log.Acquire: the lease
//	    Writer.Append(tx, messages)            Session.Read: what committed
//	tx: COMMIT                                 Publisher: to the broker
//	Writer.Wake ----------------------------> Session.Save: the Cursor
//
// A service appends with [Writer.Append] inside its own transaction, and calls
// [Writer.Wake] after the commit. A [Relay] reads a [Log], publishes every committed
// message and saves a [Cursor] of what the broker has acknowledged. A message that
// the broker refuses for good is parked with the later messages of its key; the
// other keys go on. A [Fleet] runs relays for many outboxes.
//
// Services that use Watermill append through a [Publisher]. A [Subscriber] reads the
// outbox without a broker.
//
// Package pgstore is the log in Postgres, package record what consumers receive,
// package replay sends messages again. Package outboxtest has a log in memory.
//
// # Inside the relay
//
// The relay that holds the lease is a leadership. Its reader, dispatcher and saver
// are goroutines that meet in a window: the batches that are read and not yet
// covered by the saved cursor. The window is full at RelayConfig.WindowRows rows,
// which is what a crash can make the next leader send again.
//
//	                 +--------------------- window ---------------------+
//	                 |                                                  |
//	read --batches--> dispatch --> BatchPublisher --acks--> resolve --> save
//	  |                  |                                              |
//	Session.Read      park what Vetter refuses                   Session.Save
//	idle: back off, arm the Listener
//
//	keepLease renews the lease; maintain and reconsider run once in a while
//
// Read leadership.go first (lead, run), then pipeline.go (read, dispatch, save) and
// window.go. The rest is decisions without I/O: listener.go says how an idle reader
// waits, fleet_balance.go which member of a fleet leads which outbox.
//
// # For implementers
//
// A log implements [Log], which returns a [Session] that returns a [Batch] and saves
// a [Checkpoint]. Optional parts are [Maintainer], [Reconsiderer], [Membership] with
// [Members], [MemberSession] and [Checker]. outboxtest.Exercise is the suite that
// every log must pass. A store implements [Appender]; [Prepare] checks its messages
// where no [Writer] is used.
//
// A publisher may implement [BatchPublisher] and [Vetter], returns [Unpublishable]
// for what the broker will never take, and makes its headers by [RecordHeaders] and
// [ReservedHeader].
package outbox
