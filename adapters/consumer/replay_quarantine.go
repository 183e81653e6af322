package consumer

import "context"

// Quarantine holds back the messages that follow a dead letter of their key;
// package quarantine has one. Of a letter that is replayed it learns from the
// handler.
type Quarantine interface {
	// Settle is called with letters that are skipped, discarded or parked: they
	// will not be handled, so what waits behind them may be. It may be called more
	// than once for one letter, and for letters of handlers without a quarantine.
	Settle(ctx context.Context, letters []Letter) error
}
