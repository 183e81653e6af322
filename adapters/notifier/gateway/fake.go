package gateway

import (
	"context"
	"slices"
	"sync"

	"github.com/millrace-go/millrace/app"
)

// Fake is a gateway in this process, for tests and demonstrations. It delivers a
// key once, as a real one promises, and fails as it is told to. The zero value
// takes everything.
type Fake struct {
	mu        sync.Mutex
	fail      func(app.Delivery) error
	delivered []app.Delivery
	keys      map[string]bool
	attempts  int
}

var _ app.Gateway = (*Fake)(nil)

// Send implements app.Gateway.
func (f *Fake) Send(ctx context.Context, d app.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts++
	if f.keys[d.IdempotencyKey] {
		return nil
	}
	if f.fail != nil {
		if err := f.fail(d); err != nil {
			return err
		}
	}
	if f.keys == nil {
		f.keys = map[string]bool{}
	}
	f.keys[d.IdempotencyKey] = true
	f.delivered = append(f.delivered, d)
	return nil
}

// FailWith makes Send answer what fail returns; nil delivers. A nil fail takes
// everything again. Answers are app.ErrRejected, or anything for a passing fault.
func (f *Fake) FailWith(fail func(app.Delivery) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// Delivered returns what was delivered, each key once, in order.
func (f *Fake) Delivered() []app.Delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.delivered)
}

// Attempts is how often Send was called.
func (f *Fake) Attempts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempts
}
