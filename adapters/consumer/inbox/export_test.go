package inbox

import "context"

// Prune prunes once.
func (i *Inbox) Prune(ctx context.Context) (rows int, err error) { return i.prune(ctx) }
