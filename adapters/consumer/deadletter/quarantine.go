package deadletter

import (
	"context"
)

// Quarantine holds back the messages that follow a dead letter of their key;
// package quarantine has one. It learns of replayed dead letters from the handler.
type Quarantine interface {
	// Resolve is called with dead letters that were skipped, discarded or parked:
	// nobody will handle them, so what waits behind them is released. It may be
	// called more than once for a dead letter, and for dead letters of handlers
	// without a quarantine.
	Resolve(ctx context.Context, resolved []Message) error
}
