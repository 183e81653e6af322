package outbox

import "context"

// BatchPublisher is a publisher that takes many messages at once. A Watermill
// message.Publisher given to the relay that also implements BatchPublisher is
// used through it.
type BatchPublisher interface {
	// PublishBatch hands entries over in order and calls ack exactly once for
	// each, from any goroutine, before or after it returns. It returns when all
	// entries are handed over. That may wait for capacity, but never for the
	// broker's acknowledgements, so that batches follow each other closely.
	//
	// ack(i, nil) means that the broker has made entries[i] durable. An error
	// that is ErrUnpublishable is final for that entry; any other error means
	// that the publisher gave up on everything handed over and not yet
	// acknowledged, because ctx ended or it was closed or broken. It retries by
	// itself, and keeps the order of each key while it does: between two
	// acknowledged messages of one key there is no failed one.
	// The entries may be read until they are acknowledged, never changed.
	PublishBatch(ctx context.Context, entries []Entry, ack func(i int, err error))
}

// Vetter is implemented by publishers that know before sending that the broker
// will refuse a message: too large, unknown topic, not encodable.
type Vetter interface {
	// Vet returns an error that is ErrUnpublishable if the broker will never
	// take e, and nil if it might. It must be cheap: it is asked for every entry.
	Vet(ctx context.Context, e *Entry) error
}
